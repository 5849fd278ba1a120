"""`JAX_DEBUG_NANS=1` and `JAX_DISABLE_JIT=1` stop no healthy run."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.envs.schema import Env
from rl_grads.training import maybe

SMALL = {
    "training.total_steps": 16,
    "tracking.interval": 4,
    "evaluation.interval": None,
    "evaluation.episodes": 2,
    "evaluation.max_steps": 20,
}
REPLAY = SMALL | {
    "network.hidden": (8,),
    "training.total_steps": 32,
    "training.warmup_steps": 20,
    "training.batch_size": 4,
    "replay.capacity": 40,
}
KINDS = {
    "prediction": SMALL,
    "priorities": {
        "replay.priority": "gradient_norm",
        "replay.exponent": 0.6,
        "env.wrappers.normalise_observation": 1e-8,
    },
    "ranks": {"replay.priority": "rank", "replay.exponent": 0.6},
    "clips": {
        "gradient.per_example.quantile": 0.9,
        "gradient.clip.max_abs": 1.0,
        "gradient.update.clip": "autoclip",
        "diagnostics.sampling_variance": True,
        "diagnostics.interference": True,
        "diagnostics.update_ratios": True,
    },
    "meta": {
        "meta.learn": ("optimizer.learning_rate",),
        "meta.steps": 1,
        "optimizer.eps_root": 1e-8,
    },
}
FLAGS = ("JAX_DEBUG_NANS", "JAX_DISABLE_JIT")


def config(kind: str) -> rg.Config:
    """A run of a few updates, most of whose rows see no episode end."""
    if kind != "prediction":
        return rg.replace(rg.Config(), REPLAY | KINDS[kind])
    walk = Env(id="chain/random_walk")
    made = rg.Config(agent=Prediction(), network=Linear(0.5), env=walk, replay=None)
    return rg.replace(made, SMALL)


def run(kind: str) -> dict[str, list]:
    """Rows of two members by metric."""
    result = rg.train(members=rg.population(config(kind), seeds=[0, 1]))
    return {name: values.tolist() for name, values in result.metrics.items()}


def check_same(found: dict[str, list], usual: dict[str, list]) -> None:
    """Compiled as a whole or op by op: the same to a few roundings."""
    assert found.keys() == usual.keys()
    assert np.isnan(found["training/return"]).any()
    for name in ("training/return", "training/episodes", "loss/td_error_abs"):
        np.testing.assert_allclose(found[name], usual[name], rtol=1e-3, err_msg=name)


def test_a_row_without_an_episode_stops_nothing():
    usual = run("prediction")
    with jax.debug_nans(True):
        found = run("prediction")
    check_same(found, usual)


@pytest.mark.slow  # A process of its own for each, and op by op it takes a minute.
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_with_the_flag_ends_well(kind, flag):
    code = "import json, sys; from tests.training import test_looking_for_faults as t"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(json.dumps(t.run({kind!r})))"],
        env=os.environ | {flag: "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_same(json.loads(done.stdout.splitlines()[-1]), run(kind))


def test_a_nan_that_is_a_fault_is_found():
    changes = {
        "optimizer.learning_rate": 1e38,
        "training.nonfinite_guard": False,
        "training.total_steps": 200,
    }
    broken = rg.replace(config("prediction"), changes)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
        rg.train(members=rg.population(broken))


def test_what_is_not_there_is_nan_outside_of_the_program():
    with jax.debug_nans(True):
        found = jax.jit(maybe.quotient)(np.float32([6, 0]), np.int32([4, 0]))
        undefined = maybe.unless_nan(np.float32([1.0, np.nan]))
    np.testing.assert_array_equal(maybe.on_host(found), np.float32([1.5, np.nan]))
    np.testing.assert_array_equal(maybe.on_host(undefined), np.float32([1, np.nan]))
    assert maybe.on_host(found).dtype == np.float32
