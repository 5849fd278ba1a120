"""`rg.compose`: the config of the command line, without a trace of Hydra."""

import dataclasses
import json

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

import rl_grads as rg
from rl_grads.cli.hydra_private import DEFAULTS, register_resolver
from rl_grads.config.document import to_document
from rl_grads.training.recorded import read

CASES = (
    ("train",),
    ("train", "replay=per", "agent=sarsa", "optimizer.learning_rate=1e-3"),
)


@pytest.mark.parametrize("asked", CASES, ids=" ".join)
def test_it_is_what_the_command_line_composes(command, asked):
    experiment, *overrides = asked
    words = (f"experiment={experiment}", *overrides, "run.id=one")
    status, out, err = command("train", *words, "--cfg", "job", "--resolve")
    assert status == 0, err
    told = yaml.safe_load(out)
    ours = json.loads(json.dumps(dataclasses.asdict(rg.compose(*asked, "run.id=one"))))
    assert ours == told


def test_it_is_what_a_folder_records_and_its_members_are_those(train, tiny, home):
    assert train("run.id=one").status == 0
    config = rg.compose("train", *tiny, "run.id=one")
    composed = to_document(config)
    logged = read(home / "runs/one")
    recorded = to_document(logged.config)
    assert composed.pop("run.id") == "one"  # A folder knows its own name.
    assert recorded.pop("run.id") is None
    assert composed == recorded
    assert [m.seed for m in rg.population(config)] == list(logged.seeds)


def test_an_own_folder_of_configs(tmp_path):
    own = tmp_path / "experiment"
    own.mkdir()
    text = "# @package _global_\ndefaults: [train]\nseeds: 3\n"
    (own / "mine.yaml").write_text(text)
    assert rg.compose("mine", config_dir=tmp_path).seeds == 3


def test_an_application_of_hydras_goes_on(tmp_path):
    (tmp_path / "app.yaml").write_text("word: ${own:}\n")
    register_resolver("own", lambda: "kept", replace=True)
    ConfigStore.instance().store(name="own_node", node={"a": 1})
    before = set(ConfigStore.instance().repo)
    with initialize_config_dir(str(tmp_path), **DEFAULTS):
        assert rg.compose("train").seeds == 10
        assert compose("app").word == "kept"
    assert set(ConfigStore.instance().repo) == before
    assert not GlobalHydra.instance().is_initialized()
    assert rg.compose("train").seeds == 10
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["trian"], "experiment=trian: expected one of .*did you mean 'train'"),
        (["train", "replay=pre"], "replay=pre: expected one of .*did you mean 'per'"),
        (["train", "agent.dicount=1"], "did you mean 'agent.discount'"),
        (["train", "agent.discount=2"], r"agent.discount=2.0: expected a number in"),
        (["train", "agent.discount=.1,.2"], "expected one value; -m sweeps"),
        (["train", "-m"], "-m: expected KEY=VALUE"),
        (["train", "resume=x"], "resume=x: expected null"),
    ],
)
def test_it_refuses_in_the_words_of_the_command_line(asked, says):
    with pytest.raises(rg.ConfigError, match=says):
        rg.compose(*asked)
    assert not GlobalHydra.instance().is_initialized()
