"""A foreign module's parts train through the library and through the command line."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import rl_grads as rg

# One of every kind. An episode has four steps, and the reward is the action. The agent
# always acts 1. The clip makes every gradient 1, so each update lowers every weight by
# the learning rate. The loss wants 3.
PARTS = '''
import collections

import jax.numpy as jnp
import optax
from jax import ShapeDtypeStruct

import rl_grads as rg
from rl_grads.agents import networks
from rl_grads.agents.schema import QLearning
from rl_grads.config import config, number, positive, setting
from rl_grads.envs.environment import Environment, Step
from rl_grads.td.losses import squared
from rl_grads.td.transition import Signals

USED = collections.Counter()


@rg.register.loss("foreign")
def loss(network):
    def one(params, bootstrap_params, transition, config):
        USED["loss"] += 1
        q = network.apply(params, transition.s_tm1)[transition.a_tm1]
        scalar, signals = squared(3.0 - q, transition)
        return scalar, Signals(signals.td_error, {"foreign": transition.r_t})

    return one


@rg.register.priority("foreign")
def priority(signals, config):
    USED["priority"] += 1
    return jnp.square(signals.td_error)


@rg.register.clip("foreign")
def clip(config):
    def ones(updates, state, params=None):
        return optax.tree.ones_like(updates), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), ones)


@config
class Descent:
    """Plain descent."""

    learning_rate: float = number(0.5, "step", positive)


@rg.register.optimizer("foreign", Descent)
def descent(config):
    return optax.scale(-config.learning_rate)


@config
class Weights:
    """A table."""

    start: float = number(0.0, "first value")


@rg.register.network("foreign", Weights)
class Network:
    def __init__(self, config, num_outputs):
        self.config, self.num_outputs = config, num_outputs

    def init(self, key, obs):
        return {"w": jnp.full((self.num_outputs, obs.size), self.config.start)}

    def apply(self, params, obs):
        return params["w"] @ obs


@rg.register.env("foreign")
def env(config):
    obs = jnp.array([1.0, 0.0, 0.0])

    def step(key, state, action):
        ended = state == 3
        reward = action.astype(jnp.float32)
        state = jnp.where(ended, 0, state + 1)
        return state, Step(obs, reward, ended, jnp.zeros_like(ended), obs)

    def reset(key):
        return jnp.int32(0), obs

    return Environment("foreign", reset, step, ShapeDtypeStruct((3,), jnp.float32), 2)


@config
class Stubborn(QLearning):
    """Always acts 1."""

    loss: str = setting("foreign", "the loss")


@rg.register.agent("foreign", Stubborn)
def stubborn(config, num_actions):
    made = rg.agents.q_learning(
        network=networks.make(config, num_actions),
        loss=rg.register.get("loss", config.agent.loss),
    )
    return made._replace(act=lambda state, key, obs, config: jnp.int32(1))
'''
CHOSEN = (
    "agent=foreign",
    "network=foreign",
    "optimizer=foreign",
    "env=foreign",
    "replay.priority=foreign",
    "gradient.update.clip=foreign",
)


@pytest.fixture
def parts(home: Path, registry):
    """A module in the working directory, forgotten at the end."""
    (home / "foreign_parts.py").write_text(PARTS)
    return home / "foreign_parts.py"


def rows(home: Path) -> list[dict]:
    (run,) = (home / "runs" / "train").iterdir()
    return [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_part_is_used_from_the_command_line(train, home, parts):
    status, _, err = train("--plugin", "foreign_parts", *CHOSEN)
    assert status == 0, err
    used = sys.modules["foreign_parts"].USED
    assert used["loss"] > 0 and used["priority"] > 0
    found = rows(home)
    assert [row["step"] for row in found] == [44, 44, 48, 48]
    for row in found[2:]:  # No episode ends before.
        assert row["training/return"] == 4.0  # Environment and agent.
        assert row["training/length"] == 4.0
    assert [row["loss/foreign"] for row in found] == [1.0] * 4
    # Four updates; before each the weights are 0, -0.5, -1, -1.5.
    errors = [row["loss/td_error_abs"] for row in found]
    assert errors == [3.25, 3.25, 4.25, 4.25]


def test_numbers_of_a_foreign_schema_are_overrides(train, home, parts):
    numbers = ("optimizer.learning_rate=0.25", "network.start=1")
    status, _, err = train("--plugin=foreign_parts", *CHOSEN, *numbers)
    assert status == 0, err
    # Before each update the weights are 1, 0.75, 0.5, 0.25.
    errors = [row["loss/td_error_abs"] for row in rows(home)]
    assert errors == [2.125, 2.125, 2.625, 2.625]


def test_every_part_is_used_from_python(home, parts, monkeypatch):
    monkeypatch.syspath_prepend(str(home))
    foreign = importlib.import_module("foreign_parts")
    config = rg.replace(
        rg.Config(),
        {
            "agent": foreign.Stubborn(),
            "network": foreign.Weights(),
            "optimizer": foreign.Descent(),
            "env.id": "foreign",
            "replay.priority": "foreign",
            "gradient.update.clip": "foreign",
            "training.num_envs": 2,
            "training.total_steps": 48,
            "training.warmup_steps": 40,
            "training.batch_size": 4,
            "evaluation.episodes": 1,
            "evaluation.interval": None,
            "evaluation.max_steps": 20,
        },
    )
    members = rg.population(
        config, seeds=range(1), sweep={"optimizer.learning_rate": [0.5, 0.25]}
    )
    result = rg.train(members=members)
    assert foreign.USED["loss"] > 0 and foreign.USED["priority"] > 0
    assert result.metrics["training/return"][:, -1].tolist() == [4.0, 4.0]
    assert result.metrics["loss/foreign"][:, -1].tolist() == [1.0, 1.0]
    for params, weight in zip(result.params, (-2.0, -1.0), strict=True):
        np.testing.assert_array_equal(params["w"], np.full((2, 3), weight))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("optimizer=foregin",),
            "optimizer=foregin: expected one of adam, fading_adam, foreign, rmsprop, "
            "sgd; did you mean 'foreign'?",
        ),
        (
            ("agent.loss=foregin",),
            "agent.loss='foregin': expected a registered loss: td, q_learning, "
            "double_q_learning, sarsa, expected_sarsa, foreign; did you mean "
            "'foreign'?",
        ),
        (
            ("optimizer=foreign", "optimizer.learning_rate=0"),
            "optimizer.learning_rate=0.0: expected a number in (0, inf)",
        ),
        (
            ("optimizer=foreign", "optimizer.b1=0"),
            "optimizer.b1=0: expected a key of optimizer (learning_rate); "
            "optimizer=adam would have it",
        ),
        (
            ("env=foregin",),
            "env.id='foregin': expected gymnax/ID, gymnasium/ID, chain/NAME or a "
            "registered name; did you mean 'foreign'?",
        ),
    ],
)
def test_foreign_names_stand_in_messages(command, parts, arguments, message):
    status, _, err = command("train", "--plugin", "foreign_parts", *arguments)
    assert (status, err) == (2, f"rl-grads train: {message}\n")


def test_a_name_that_is_taken_is_refused(command, home, registry):
    text = "import rl_grads as rg\nrg.register.optimizer('adam')(lambda config: None)\n"
    (home / "foreign_taken.py").write_text(text)
    status, _, err = command("train", "--plugin", "foreign_taken")
    assert status == 2
    told = "--plugin=foreign_taken: optimizer 'adam' is registered already"
    assert err == f"rl-grads train: {told}\n"


def test_a_plugin_that_misses_a_module_shows_where(command, home, registry):
    (home / "foreign_needy.py").write_text("import foreign_absent\n")
    status, _, err = command("train", "--plugin", "foreign_needy")
    assert status == 2
    assert err == (
        "rl-grads train: --plugin=foreign_needy: importing it raised "
        "ModuleNotFoundError: No module named 'foreign_absent' (foreign_needy.py:1)\n"
    )


def test_an_installed_plugin_needs_no_option(command, home, registry, monkeypatch):
    site = home / "site"
    info = site / "foreign_installed-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-installed\n")
    entry = "[rl_grads.plugins]\nforeign = foreign_installed\n"
    (info / "entry_points.txt").write_text(entry)
    (site / "foreign_installed.py").write_text(
        "import rl_grads as rg\n"
        "@rg.register.optimizer('foreign')\n"
        "def foreign(config): ...\n"
    )
    assert command("train", "--cfg", "job", "optimizer=foreign").status == 2
    monkeypatch.syspath_prepend(str(site))
    status, out, err = command("train", "--cfg", "job", "optimizer=foreign")
    assert (status, err) == (0, "")
    assert "optimizer: {}\n" in out
