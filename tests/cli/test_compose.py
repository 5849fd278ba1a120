"""Configs: every file composes, every experiment trains, a user adds their own."""

import json
import re
from pathlib import Path

import pytest
import yaml

import rl_grads as rg
from rl_grads.agents.schema import MLP, BehaviourPolicy, QLearning, Target
from rl_grads.cli import compose
from rl_grads.envs.schema import Env
from rl_grads.gradients.schema import Adam, Gradient, UpdateClip
from rl_grads.td import losses
from rl_grads.tracking.metrics import METRICS
from rl_grads.training.schema import Evaluation, RunSection, Training

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
DECLARED = {metric.name for metric in METRICS}
# Prediction follows the environment's own policy, and a convolution needs frames.
BESIDE = {"network=convolution": ("env=gymnax/Breakout-MinAtar",)}
DIAGNOSED = (
    "diagnostics.noise_scale=true",
    "diagnostics.layer_norms=true",
    "diagnostics.nonfinite_examples=true",
    "diagnostics.interference=true",
    "diagnostics.update_ratios=true",
    "diagnostics.dormant_threshold=0.025",
    "diagnostics.rank_threshold=0.01",
)


def composed(*overrides):
    """The config that a command line gives."""
    compose.store_schemas()
    with compose.composer(compose.read([])) as make:
        whole = make([compose.spell(o) for o in overrides], False)
        return compose.to_config(compose.without_hydra(whole))


def rows(home, experiment):
    (run,) = (home / "runs" / experiment).iterdir()
    return [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------ experiments


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains(train, home, experiment):
    status, _, err = train(f"experiment={experiment}")
    assert status == 0, err
    logged = rows(home, experiment)
    assert [row["step"] for row in logged][-2:] == [48, 48]
    for row in logged:
        found = {kind(name) for name in row}
        assert found - {"step", "member", "seed"} <= DECLARED
        assert row["gradient/norm"] is not None  # So there were updates.


def kind(metric):
    """A metric's name with what depends on the network in capitals."""
    metric = re.sub("^(diagnostics/dormant)/.*", r"\1/PLACE", metric)
    metric = re.sub("^learned/.*", "learned/PATH", metric)
    metric = re.sub("^loss/own$", "loss/NAME", metric)
    return re.sub("^(diagnostics/(gradient_norm|update_ratio))/.*", r"\1/LAYER", metric)


@pytest.mark.slow
def test_every_declared_metric_is_reported(train, home, registry):
    @registry.loss("own")
    def own(network):
        def loss(*given):
            value, signals = losses.q_learning(network)(*given)
            return value, signals._replace(extra={"own": value})

        return loss

    measured = "replay=per diagnostics.sampling_variance=true gradient.clip.max_abs=1"
    others = ("agent.loss=own", "gradient.per_example.max_norm=1", *DIAGNOSED)
    assert train("experiment=train", *measured.split(), *others).status == 0
    learned = "meta.learn=[optimizer.learning_rate] meta.truth_meter=true"
    learned += " evaluation.average_window=0.5"
    assert train("experiment=random_walk", *learned.split()).status == 0
    last = [rows(home, name)[-1] for name in ("train", "random_walk")]
    found = {kind(name) for row in last for name in row}
    assert found - {"step", "member", "seed"} == DECLARED


# ------------------------------------------------------------------------- composing


def test_the_main_job():
    assert composed("run.id=here") == rg.Config(
        seeds=10,
        agent=QLearning(
            loss="double_q_learning",
            discount=0.995,
            target=Target(polyak=0.03),
            behaviour_policy=BehaviourPolicy(
                epsilon=1.0, epsilon_final=0.04, epsilon_fraction=0.16
            ),
        ),
        network=MLP(layer_norm=True),
        env=Env(id="gymnax/CartPole-v1"),
        optimizer=Adam(learning_rate=3e-4, learning_rate_decay=0.1),
        gradient=Gradient(update=UpdateClip(clip="global_norm", max_norm=10.0)),
        training=Training(num_envs=10, updates_per_iteration=10),
        evaluation=Evaluation(average_window=0.05),
        run=RunSection(id="here"),
    )


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={name}"
        for group in ("agent", "network", "optimizer", "replay")
        for name in compose.choices(group)
    ],
)
def test_every_choice_takes_its_place_in_the_main_job(choice):
    group, _, name = choice.partition("=")
    section = getattr(composed(choice), group)
    if name == "none":
        assert section is None
    else:
        schema = type(section).__name__.lower()
        assert schema.replace("_", "") in name.replace("_", "") or group in (
            "agent",
            "replay",
        )


def test_no_replay_has_three_spellings():
    for spelling in ("replay=null", "replay=none", "~replay"):
        assert composed(spelling).replay is None


def test_overrides_of_every_type():
    config = composed(
        "agent.discount=1",
        "network.hidden=[32,16]",
        "network.layer_norm=no",
        "env=gymnasium/FrozenLake-v1",
        "env.wrappers.reward_scale=0.5",
        "tracking.wandb.tags=[a,b]",
        "training.total_steps=5_000",
        "optimizer=sgd",
        "optimizer.momentum=0.9",
    )
    assert config.agent.discount == 1.0 and type(config.agent.discount) is float
    assert config.network == MLP(hidden=(32, 16), layer_norm=False)
    assert config.env.id == "gymnasium/FrozenLake-v1"
    assert config.env.wrappers.reward_scale == 0.5
    assert config.tracking.wandb.tags == ("a", "b")
    assert config.training.total_steps == 5000
    assert config.optimizer.momentum == 0.9
    assert config.optimizer.learning_rate == 0.1  # That of SGD, not of the main job.


def test_parameters_of_an_environment_are_added():
    assert composed("+env.params.gravity=5").env.params == {"gravity": 5.0}


def test_the_run_is_named_after_experiment_and_time():
    name = composed("experiment=random_walk").run.id
    experiment, _, time = name.partition("/")
    assert experiment == "random_walk"
    assert len(time) == len("2026-01-31_12-00-00")


def test_cfg_job_prints_the_resolved_config(command):
    status, out, err = command("train", "--cfg", "job", "run.id=x", "replay=null")
    assert (status, err) == (0, "")
    assert "${" not in out
    printed = yaml.safe_load(out)
    assert printed["agent"]["loss"] == "double_q_learning"
    assert printed["run"] == {"id": "x", "overwrite": False}
    assert list(printed) == [f for f in rg.Config.__dataclass_fields__ if f in printed]


def test_a_choice_that_is_null_is_spelled_as_a_name():
    assert compose.spell("replay=null") == "replay=none"
    assert compose.spell("replay=buffer,null") == "replay=buffer,none"
    assert compose.spell("resume=null") == "resume=null"
    assert compose.spell("agent.target.polyak=null") == "agent.target.polyak=null"


# ---------------------------------------------------------------- a folder of one's own


@pytest.fixture
def folder(home):
    """A config folder with an experiment, an agent and an environment."""
    texts = {
        "experiment/mine": "# @package _global_\n"
        "defaults:\n  - override /agent: mine\n  - override /env: mine\n"
        "training:\n  num_envs: 2\n",
        "agent/mine": "defaults:\n  - schema/q_learning@_here_\ndiscount: 0.5\n",
        "env/mine": "id: gymnax/CartPole-v1\nparams: {gravity: 5.0}\n",
    }
    for name, text in texts.items():
        path = home / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return home / "conf"


def test_a_users_configs_are_choices_too(command, folder):
    arguments = ("train", f"--config-dir={folder}", "experiment=mine", "--cfg", "job")
    status, out, err = command(*arguments)
    assert status == 0, err
    printed = yaml.safe_load(out)
    assert printed["agent"]["discount"] == 0.5
    assert printed["env"]["params"] == {"gravity": 5.0}
    assert printed["run"]["id"].startswith("mine/")


def test_a_users_configs_stand_among_the_expected_names(command, folder):
    err = command("train", f"--config-dir={folder}", "experiment=min").err
    assert "minatar_breakout, mine, random_walk, random_walk_19, " in err
    assert "did you mean 'mine'?" in err


OWN = {
    "replay/per": "defaults:\n  - schema/buffer@_here_\ncapacity: 77\n",
    "network/mlp": "defaults:\n  - schema/mlp@_here_\nhidden: [7]\n",
    "experiment/train": "# @package _global_\nseeds: 3\n",
    "notes/of_mine": "a: 1\n",
}


@pytest.mark.parametrize("mode", ["RUN", "MULTIRUN"])
def test_a_users_file_wins_over_the_built_in_one_and_it_is_said(command, home, mode):
    for name, text in OWN.items():
        path = home / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    shown = ("--cfg", "job", f"hydra.mode={mode}")
    line = ("train", "--config-dir", "conf", "replay=per", *shown)
    status, out, err = command(*line)
    assert status == 0, err
    printed = yaml.safe_load(out)
    assert printed["replay"]["capacity"] == 77
    assert printed["network"]["hidden"] == [7]
    assert printed["seeds"] == 3
    assert err == (
        "--config-dir=conf: experiment/train.yaml, network/mlp.yaml, replay/per.yaml "
        "stand for the built-in files\n"
    )


def test_a_users_train_yaml_is_the_one_that_is_used(command, home):
    whole = (CONFIGS / "train.yaml").read_text()
    (home / "conf").mkdir()
    (home / "conf" / "train.yaml").write_text(f"{whole}seeds: 4\n")
    status, out, err = command("train", "--config-dir=conf", "--cfg", "job")
    assert (status, yaml.safe_load(out)["seeds"]) == (0, 4), err
    assert err == "--config-dir=conf: train.yaml stands for the built-in file\n"


@pytest.mark.slow
def test_a_run_trains_what_the_users_file_says(train, home):
    path = home / "conf" / "replay" / "per.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(OWN["replay/per"])
    status, _, err = train("--config-dir=conf", "replay=per", "run.id=own")
    assert status == 0, err
    assert err.count("replay/per.yaml stands for the built-in file") == 1
    saved = yaml.safe_load((home / "runs/own/.hydra/config.yaml").read_text())
    assert saved["replay"]["capacity"] == 77
