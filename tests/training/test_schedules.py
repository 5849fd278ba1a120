"""Schedules take the steps of the run, or as many as they are told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.training import loop
from rl_grads.training.schema import Training

EPSILON = "agent.behaviour_policy.epsilon_final"
LONG = 2**31 - 1


@pytest.mark.parametrize(
    ("training", "time", "expected"),
    [
        (Training(total_steps=1000, num_envs=4), 125, 0.5),
        (Training(total_steps=2000, schedule_steps=1000, num_envs=4), 125, 0.5),
        (Training(total_steps=2000, schedule_steps=1000), 1500, 1.0),
        (Training(total_steps=500, schedule_steps=1000), 500, 0.5),
        (Training(total_steps=LONG), LONG, 1.0),
        (Training(total_steps=LONG, num_envs=1024), 2**20, 0.5),
    ],
)
def test_the_part_that_has_passed(training, time, expected):
    found = jax.jit(functools.partial(loop.progress, training))(jnp.int32(time))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_longer_run_begins_as_the_shorter_one_did(tiny):
    config = tiny({"optimizer.learning_rate_decay": 0.0, EPSILON: 0.05})
    short = rg.train(members=rg.population(config))
    longer = {"training.total_steps": 360, "training.schedule_steps": 240}
    long = rg.train(members=rg.population(rg.replace(config, longer)))
    assert long.steps[: len(short.steps)].tolist() == short.steps.tolist()
    assert long.steps[-1] == 360
    for name, values in short.metrics.items():
        kept = long.metrics[name][:, : len(short.steps)]
        if not name.startswith("evaluation/"):
            np.testing.assert_array_equal(kept, values, err_msg=name)
    # The learning rate has come to zero by then, and stays there.
    for before, after in zip(
        *map(jax.tree.leaves, (short.params, long.params)), strict=True
    ):
        np.testing.assert_array_equal(before, after)
