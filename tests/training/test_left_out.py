"""What training makes of an environment that declares a wrong time limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.envs.environment import Environment, Step
from rl_grads.gradients.schema import SGD
from rl_grads.replay.schema import Replay

SETTINGS = {
    "training.total_steps": 2000,
    "training.warmup_steps": 60,
    "training.batch_size": 8,
    "tracking.interval": 500,
    "tracking.progress": False,
    "evaluation.interval": None,
}


def corridor(time_limit):
    """States 0, 1, 2, and 3, in which the time is up."""

    def seen(state):
        return jax.nn.one_hot(state, 4)

    def reset(key):
        return jnp.int32(0), seen(0)

    def step(key, state, action):
        after, no = state + 1, jnp.bool_(False)
        state = after % 3
        zero = jnp.zeros(())
        return state, Step(seen(state), zero, no, after == 3, seen(after))

    observation = jax.ShapeDtypeStruct((4,), jnp.float32)
    return Environment("corridor", reset, step, observation, 1, time_limit)


def trained(time_limit, priority="uniform"):
    config = rg.Config(
        agent=Prediction(discount=0.9),
        network=Linear(initial_weights=(0.2, 0.3, 0.5, 1.0)),
        optimizer=SGD(learning_rate=0.3),
        replay=Replay(capacity=50, priority=priority),
    )
    members = rg.population(rg.replace(config, SETTINGS))
    return rg.train(env=corridor(time_limit), members=members)


def test_a_right_time_limit_leaves_nothing_out():
    result = trained(3)
    values = np.ravel(result.params[0]["w"])
    np.testing.assert_allclose(values, [0.729, 0.81, 0.9, 1.0], atol=1e-4)
    assert np.all(result.metrics["replay/left_out"] == 0)
    assert result.summary()["notes"] == []
    assert "replay/left_out" not in trained(1).metrics  # Nothing can be.


def test_without_one_truncated_transitions_are_left_out_and_it_is_said():
    result = trained(None)
    values = np.ravel(result.params[0]["w"])
    # State 2 keeps its first value: it never is bootstrapped from state 0.
    np.testing.assert_allclose(values, [0.405, 0.45, 0.5, 1.0], atol=1e-4)
    # Of the last 50 of 500, 1000, 1500 and 2000 steps every third is truncated.
    left_out = result.metrics["replay/left_out"]
    np.testing.assert_allclose(left_out, [[0.32, 0.34, 0.34, 0.32]], rtol=1e-6)
    (note,) = result.summary()["notes"]
    assert note.startswith("replay/left_out: up to ")
    assert "truncates episodes sooner than its time_limit says" in note


@pytest.mark.parametrize("priority", ["td_error", "rank"])
def test_what_is_lost_has_no_priority(priority):
    result = trained(None, priority)
    values = np.ravel(result.params[0]["w"])
    np.testing.assert_allclose(values, [0.405, 0.45, 0.5, 1.0], atol=1e-4)
    assert np.all(result.metrics["replay/left_out"] > 0.3)
    result = trained(40, priority)
    values = np.ravel(result.params[0]["w"])
    np.testing.assert_allclose(values, [0.729, 0.81, 0.9, 1.0], atol=1e-3)
    assert np.all(result.metrics["replay/left_out"] > 0.2)


def test_with_one_too_large_what_is_kept_is_right():
    result = trained(40)
    values = np.ravel(result.params[0]["w"])
    np.testing.assert_allclose(values, [0.729, 0.81, 0.9, 1.0], atol=1e-3)
    assert np.all(result.metrics["replay/left_out"] > 0)
