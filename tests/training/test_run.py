"""The host's loop: what happens at which step, and where training ends."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rl_grads as rg
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment, Step
from rl_grads.gradients.schema import SGD
from rl_grads.replay.schema import Replay
from rl_grads.training import collecting, learning, loop, run
from rl_grads.training.engine import Given, parts

EMPTY = Given(None, None)


def walk(changes=None, **network):
    """Tabular prediction online on the five-state walk."""
    base = rg.Config(
        agent=Prediction(discount=0.9),
        network=Linear(**({"initial_weights": (0.1, 0.9, 0.3, 0.7, 0.2)} | network)),
        optimizer=SGD(),
        replay=None,
    )
    settings = {
        "env.id": "chain/random_walk",
        "training.total_steps": 400,
        "tracking.interval": 100,
        "evaluation.interval": 150,
    }
    return rg.replace(base, settings | (changes or {}))


def weights(members):
    return np.asarray(members.agent.params["w"])


# ------------------------------------------------------------------------------ stops


def rows_at(**settings):
    """Environment steps of the rows, of the evaluations and of the checkpoints."""
    names = {
        "total": "training.total_steps",
        "envs": "training.num_envs",
        "steps": "training.num_steps",
        "warmup": "training.warmup_steps",
        "row": "tracking.interval",
        "evaluate": "evaluation.interval",
        "save": "checkpoint.interval",
    }
    base = rg.replace(rg.Config(), {"evaluation.interval": None})
    config = rg.replace(base, {names[k]: v for k, v in settings.items()})
    stops, per = list(run.stops(config)), run.steps_per_iteration(config)
    return (
        [s.iteration * per for s in stops],
        [s.iteration * per for s in stops if s.evaluate],
        [s.iteration * per for s in stops if s.save],
    )


@pytest.mark.parametrize(
    ("settings", "rows", "evaluations", "saves"),
    [
        ({"total": 100, "warmup": 1, "row": 40}, [40, 80, 100], [100], []),
        (
            {"total": 100, "warmup": 30, "row": 20, "evaluate": 50, "save": 30},
            [40, 50, 60, 80, 90, 100],
            [50, 100],
            [60, 90],
        ),
        ({"total": 7, "warmup": 1, "row": 1000}, [7], [7], []),
        # Eight steps per iteration: a stop comes at the first iteration that is due.
        (
            {"total": 96, "warmup": 9, "row": 30, "envs": 2, "steps": 4},
            [32, 64, 96],
            [96],
            [],
        ),
        # The first iteration after sixteen steps of warm-up makes the first row.
        (
            {"total": 40, "warmup": 16, "row": 1, "envs": 2, "steps": 4},
            [24, 32, 40],
            [40],
            [],
        ),
    ],
)
def test_stops(settings, rows, evaluations, saves):
    assert rows_at(**settings) == (rows, evaluations, saves)


def all_stops(config):
    """Every stop by the definition: the iterations that reach a multiple."""
    per = run.steps_per_iteration(config)
    last, first = config.training.total_steps // per, run.warm_up_iterations(config)

    def every(interval):
        steps = range(interval, last * per + 1, interval) if interval else ()
        return {math.ceil(step / per) for step in steps}

    evaluate = every(config.evaluation.interval) | {last}
    save = every(config.checkpoint.interval)
    at = sorted(evaluate | save | every(config.tracking.interval))
    return [run.Stop(i, i in evaluate, i in save) for i in at if first < i <= last]


counts = st.integers(1, 40)
maybe = st.none() | counts


@given(st.integers(1, 300), counts, counts, counts, maybe, maybe, maybe)
def test_stops_are_the_multiples_of_the_intervals(
    total, envs, steps, row, evaluate, save, warmup
):
    changes = {
        "replay": None if warmup is None else Replay(),
        "training.total_steps": total,
        "training.num_envs": envs,
        "training.num_steps": steps,
        "training.warmup_steps": warmup or 1,
        "tracking.interval": row,
        "evaluation.interval": evaluate,
        "checkpoint.interval": save,
    }
    config = rg.replace(rg.Config(), changes)
    assert list(run.stops(config)) == all_stops(config)


def test_a_long_run_does_not_list_its_stops_first():
    """The list took 9.4 GB at 1e12 steps; the first three take none."""
    changes = {"training.total_steps": 2**31 - 1, "tracking.interval": 1}
    stops = run.stops(rg.replace(walk(), changes))
    first = [stop.iteration for stop in itertools.islice(stops, 3)]
    assert first == [1, 2, 3]


def test_rows_and_evaluations_stand_at_their_steps():
    result = rg.train(members=rg.population(walk(), seeds=range(3)))
    assert result.steps.tolist() == [100, 150, 200, 300, 400]
    measured = ~np.isnan(result.metrics["evaluation/rmsve"])
    assert measured.tolist() == [[False, True, False, True, True]] * 3
    np.testing.assert_array_equal(
        result.final()["evaluation/rmsve"], result.metrics["evaluation/rmsve"][:, -1]
    )


def test_how_often_rows_are_logged_does_not_change_training():
    often, rarely = walk({"tracking.interval": 4}), walk({"tracking.interval": 400})
    runs = [rg.train(members=rg.population(c, range(3))) for c in (often, rarely)]
    assert [len(one.steps) for one in runs] == [101, 3]
    for a, b in zip(*(one.params for one in runs), strict=True):
        np.testing.assert_array_equal(a["w"], b["w"])
    for name in ("loss/td_error_abs", "gradient/norm"):
        totals = [weighted_sum(one, name) for one in runs]
        np.testing.assert_allclose(*totals, rtol=1e-5)
    counts = [one.metrics["training/episodes"][:, -1].tolist() for one in runs]
    assert counts[0] == counts[1]


def weighted_sum(result, name):
    """The sum of a metric over all steps, from the means of the stretches."""
    return result.metrics[name] @ np.diff(result.steps, prepend=0)


# ----------------------------------------------------------------------------- warm-up


def test_warming_up_fills_the_memory_and_updates_nothing():
    changes = {
        "replay": Replay(capacity=200),
        "training.num_envs": 2,
        "training.num_steps": 2,
        "training.updates_per_iteration": 3,
        "training.warmup_steps": 42,
    }
    the = run.plan_for(EMPTY, rg.population(walk(changes), seeds=range(3)))
    before = weights(run.fresh(the))
    start = run.start(the)
    assert start.iteration == 11  # Of four environment steps each.
    assert np.all(np.asarray(start.members.agent.updates) == 0)
    np.testing.assert_array_equal(weights(start.members), before)
    obs = np.asarray(start.members.memory.ring.obs)
    assert np.all(np.any(obs[:, :23] != 0, axis=-1))
    assert np.all(obs[:, 23:] == 0)
    snapshot, row = run.advance(the, start, run.Stop(14, False, False))
    assert row.step == 14 * 4
    assert np.asarray(snapshot.members.agent.updates).tolist() == [9] * 4


# ----------------------------------------------------------------------------- episodes


EPISODES = {"training.total_episodes": 3, "training.total_steps": 100_000}


def test_total_episodes_stops_a_member_after_exactly_so_many():
    the = run.plan_for(EMPTY, rg.population(walk(EPISODES), range(4)))
    snapshot = run.start(the)
    stopped = np.zeros(4, bool)
    for iteration in range(1, 150):
        before = weights(snapshot.members)
        stop = run.Stop(iteration, False, False)
        snapshot, row = run.advance(the, snapshot, stop)
        moved = np.any(weights(snapshot.members) != before, axis=(1, 2))
        np.testing.assert_array_equal(moved, ~stopped)
        stopped = row.metrics["training/episodes"] >= 3
    assert np.all(stopped)


def test_training_ends_with_an_evaluation_once_every_member_has_its_episodes():
    result = rg.train(members=rg.population(walk(EPISODES), seeds=range(4)))
    assert np.all(result.final()["training/episodes"] >= 3)
    assert result.steps[-1] <= 200
    assert np.all(np.isfinite(result.metrics["evaluation/rmsve"][:, -1]))


# --------------------------------------------------------------- terminated, truncated


def flagged(terminated, truncated):
    """An environment that ends every step as it is told; 7 is a final observation."""

    def reset(key):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, state, action):
        ended = terminated, truncated
        return state, Step(jnp.zeros(1), jnp.ones(()), *ended, jnp.full(1, 7.0))

    observation = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Environment("flagged", reset, step, observation, 1, time_limit=1)


@jax.jit
def one_step(terminated, truncated):
    """What one step of two environments leads to, and what a loss sees of it."""
    config = walk({"training.num_envs": 2}, initial_weights=None)
    made = parts(Given(None, flagged(terminated, truncated)), config)
    member = loop.init(made, jax.random.key(0))
    keys = collecting.iteration_keys(member.key, jnp.int32(0), config.training)
    _, new, finished = collecting.collect(made, member, keys)
    seen = learning.transition(jax.tree.map(lambda x: x[0], new), config)
    return new, seen, finished


@pytest.mark.parametrize(
    ("terminated", "truncated", "discount", "kept"),
    [
        (False, False, 0.9, (False, False)),
        (False, True, 0.9, (False, True)),
        (True, False, 0.0, (True, False)),
        (True, True, 0.0, (True, False)),
    ],
)
def test_only_a_termination_has_no_future(terminated, truncated, discount, kept):
    new, seen, finished = one_step(terminated, truncated)
    assert (bool(new.terminated[0, 1]), bool(new.truncated[0, 1])) == kept
    np.testing.assert_array_equal(new.s_t, np.full((1, 2, 1), 7.0))
    np.testing.assert_allclose(seen.discount_t, discount)
    assert int(finished.count) == (2 if any(kept) else 0)


# -------------------------------------------------------------------------- divergence


def rates(*values, **changes):
    """A population of one seed, with these learning rates."""
    sweep = {"optimizer.learning_rate": values}
    return rg.population(walk(changes), seeds=[0], sweep=sweep)


def test_a_member_that_diverges_is_frozen_counted_and_alone():
    result = rg.train(members=rates(0.1, 1e30, 0.05))
    fine = rg.train(members=rates(0.1, 0.2, 0.05))
    assert result.diverged_at[0] == result.diverged_at[2] == -1
    at = result.diverged_at[1]
    assert 0 < at <= 20
    for k in (0, 2):
        np.testing.assert_array_equal(result.params[k]["w"], fine.params[k]["w"])
        for name, values in result.metrics.items():
            np.testing.assert_array_equal(values[k], fine.metrics[name][k], name)
    assert result.metrics["training/diverged"][:, -1].tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"members that share a config; points\(\)"):
        result.summary()
    summaries = [point.summary() for point in result.points()]
    assert [s["status"] for s in summaries] == ["finished", "diverged", "finished"]
    assert summaries[1]["diverged"] == {"0": at}
    assert fine.status == "finished"


def test_a_diverged_member_keeps_its_agent_of_that_step():
    the = run.plan_for(EMPTY, rates(1e30, 0.1, 0.2))
    snapshot, history = run.start(the), []
    for iteration in range(1, 60):
        history.append(np.asarray(snapshot.members.agent.params["w"][0]))
        stop = run.Stop(iteration, False, False)
        snapshot, _ = run.advance(the, snapshot, stop)
    at = int(snapshot.members.diverged_at[0])
    np.testing.assert_array_equal(
        snapshot.members.agent.params["w"][0], history[at - 1]
    )
    assert not np.array_equal(history[at - 1], history[0])
    updates = np.asarray(snapshot.members.agent.updates).tolist()
    assert updates == [at - 1, 59, 59, 59]  # The last one is padding.


def test_without_the_guard_a_diverging_member_goes_on():
    result = rg.train(members=rates(1e30, 0.1, **{"training.nonfinite_guard": False}))
    assert result.diverged_at[0] > 0
    assert result.diverged_at[1] == -1
    assert np.all(np.isnan(result.params[0]["w"][0, 1:4]))
    assert np.all(np.isfinite(result.params[1]["w"]))
    assert result.status == "diverged"


# -------------------------------------------------------------------------- refusals


def test_parts_that_do_not_fit_are_refused_before_anything_runs():
    members = rg.population(walk({"training.num_steps": 500}))
    with pytest.raises(
        ConfigError, match=r"training.total_steps=400: expected at leas"
    ):
        rg.train(members=members)
