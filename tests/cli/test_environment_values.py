"""Values that read the environment are known before anything is resolved."""

import json
import os
import pathlib
import secrets

import pytest
from omegaconf import OmegaConf

from rl_grads.cli import compose
from rl_grads.cli.environment_values import environment_values
from rl_grads.cli.hydra_private import register_resolver


def found(*overrides):
    """The mapping of a command line."""
    compose.store_schemas()
    with compose.composer(compose.read([])) as make:
        whole = make([compose.spell(o) for o in overrides], False)
        with_hydra = environment_values(whole)
        assert with_hydra == environment_values(compose.without_hydra(whole))
        return with_hydra


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tracking.wandb.project='${oc.env:SECRET}'", "${oc.env:SECRET}"),
        ("tracking.wandb.project='a-${oc.env:SECRET,b}-c'", "a-${oc.env:SECRET,b}-c"),
        ("seed='${oc.decode:${oc.env:SECRET}}'", "${oc.decode:${oc.env:SECRET}}"),
        ("seeds='${ oc.env : SECRET}'", "${ oc.env : SECRET}"),
        ("optimizer.learning_rate='${oc.env:SECRET}'", "${oc.env:SECRET}"),
        ("tracking.wandb.project='${a_plugin:1}'", "${a_plugin:1}"),
        ("tracking.wandb.tags=[a,'${oc.env:SECRET}',2]", "[a, ${oc.env:SECRET}, 2]"),
        (
            "+env.params={gravity:'${oc.env:SECRET}',length:1.0}",
            "{gravity: ${oc.env:SECRET}, length: 1.0}",
        ),
    ],
)
def test_what_reads_the_environment_is_named_with_its_text(override, expected):
    key = override.lstrip("+").partition("=")[0]
    assert found(override) == {key: expected}


def test_references_are_followed():
    values = found(
        "tracking.wandb.group='${oc.env:SECRET}'",
        "tracking.wandb.project='x${tracking.wandb.group}'",
        "resume='${tracking.wandb.project}'",
        "tracking.wandb.entity='${.mode}'",
        "tracking.wandb.tags=['${tracking.wandb.group}']",
    )
    assert values == {
        "tracking.wandb.group": "${oc.env:SECRET}",
        "tracking.wandb.project": "x${tracking.wandb.group}",
        "resume": "${tracking.wandb.project}",
        "tracking.wandb.tags": "[${tracking.wandb.group}]",
    }


def test_a_section_that_refers_to_another_is_followed_key_by_key():
    rate = "optimizer.learning_rate='${oc.env:SECRET}'"
    assert found(rate, "meta.optimizer='${optimizer}'") == {
        "optimizer.learning_rate": "${oc.env:SECRET}",
        "meta.optimizer.learning_rate": "${oc.env:SECRET}",
    }


def test_a_section_that_the_environment_chooses_is_its_word_in_every_key(monkeypatch):
    monkeypatch.setenv("SECRET", "optimizer")
    values = found("meta.optimizer='${${oc.env:SECRET}}'", "optimizer=sgd")
    assert values["meta.optimizer.momentum"] == "${${oc.env:SECRET}}"
    assert {key.rpartition(".")[0] for key in values} == {"meta.optimizer"}


def test_a_resolver_whose_name_is_put_together_is_not_trusted():
    values = found(
        "tracking.wandb.group='${oc.${tracking.wandb.entity}:SECRET}'",
        "tracking.wandb.entity=env",
    )
    expected = {"tracking.wandb.group": "${oc.${tracking.wandb.entity}:SECRET}"}
    assert values == expected


def test_hydras_own_section_may_read_it():
    values = found(
        "+hydra.job.env_set.NAME='${oc.env:SECRET}'",
        "tracking.wandb.group='${hydra:job.env_set.NAME}'",
        "tracking.wandb.entity='${hydra:job.name}'",
    )
    assert values == {"tracking.wandb.group": "${hydra:job.env_set.NAME}"}


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "tracking.wandb.group='${run.id}'",
        "tracking.wandb.group='${now:%Y}'",
        "tracking.wandb.group='${hydra:job.name}'",
        "tracking.wandb.group='${nothing.there}'",
        "seed='${oc.decode:1}'",
    ],
)
def test_what_comes_from_elsewhere_is_not(override):
    assert found(override) == {}


def test_nothing_is_read(monkeypatch):
    monkeypatch.delenv("SECRET", raising=False)
    read = []
    register_resolver("a_plugin", read.append)
    values = found("resume='${oc.env:SECRET}'", "run.id='${a_plugin:1}'")
    OmegaConf.clear_resolver("a_plugin")
    assert (list(values), read) == (["resume", "run.id"], [])


@pytest.mark.slow
def test_what_the_environment_said_is_written_nowhere(train, home, monkeypatch):
    secret = secrets.token_hex()  # The run records the tree's diff, this file's too.
    monkeypatch.setenv("SECRET", secret)
    monkeypatch.setenv("RATE", "0.0123")
    status, _, err = train(
        "tracking.wandb.mode=offline",
        "tracking.trackio=true",
        "tracking.wandb.group='${oc.env:SECRET}'",
        "tracking.wandb.tags=['${oc.env:SECRET}',mine]",
        "optimizer.learning_rate='${oc.decode:${oc.env:RATE}}'",
        "run.id=x",
    )
    assert status == 0, err
    folders = (home, pathlib.Path(os.environ["TRACKIO_DIR"]))
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    assert any(p.suffix == ".wandb" for p in files)
    assert any(p.suffix == ".db" for p in files)
    for path in files:
        assert secret.encode() not in path.read_bytes(), path
    recorded = json.loads((home / "runs/x/config.json").read_text())["config"]
    assert recorded["optimizer.learning_rate"] == "${oc.decode:${oc.env:RATE}}"
    assert recorded["tracking.wandb.tags"] == "[${oc.env:SECRET}, mine]"
