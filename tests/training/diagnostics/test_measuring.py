"""What a run measures of itself, against the same from the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rl_grads as rg
from rl_grads.agents.schema import MLP, Linear, Prediction, QLearning
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.replay import blocked_sums, buffer, priorities
from rl_grads.replay.schema import Replay
from rl_grads.td.transition import Signals
from rl_grads.tracking.metrics import METRICS
from rl_grads.training import engine, learning, run
from rl_grads.training.diagnostics import measuring

pytestmark = pytest.mark.slow

QUIET = {
    "evaluation.interval": None,
    "tracking.progress": False,
    "tracking.interval": 100,
    "training.total_steps": 300,
    "training.warmup_steps": 200,
    "training.batch_size": 8,
    "diagnostics.sampling_variance": True,
    "diagnostics.examples": 50,
}
WALK = {
    "agent": Prediction(),
    "env.id": "chain/random_walk",
    "network": MLP(hidden=(4,)),
    "optimizer": Adam(learning_rate=0.01),
    "replay": Replay(capacity=200, priority="td_error", exponent=0.5),
}


def config(**changes):
    return rg.replace(rg.Config(), WALK | QUIET | changes)


def member(value):
    """A member after some updates, and what it is made of."""
    the = run.plan_for(engine.Given(None, None), rg.population(value))
    snapshot, _ = run.advance(the, run.start(the), run.Stop(300, False, False))
    first = jax.tree.map(lambda x: x[0], snapshot.members)
    return engine.parts(engine.Given(None, None), value), first


def test_the_meter_measures_what_it_says():
    parts, state = member(config())
    found = jax.jit(functools.partial(measuring.diagnose, parts))(state, 300)
    each, scaled, signals, stored = definition(parts, state)
    own = priorities.td_error(signals, parts.config) ** 0.5
    for prefix, gradients in (("", each), ("preconditioned/", scaled)):
        for name, priority in (
            ("stored", stored),
            ("own", own),
            ("td_error", jnp.abs(signals.td_error)),
            ("td_error_0.6", jnp.abs(signals.td_error) ** 0.6),
            ("gradient_norm", jnp.linalg.norm(each, axis=1)),
        ):
            ratio = found[f"sampling_variance/{prefix}{name}"].value
            expected = by_definition(gradients, priority)
            np.testing.assert_allclose(ratio, expected, rtol=2e-3)


def definition(parts, state):
    """Gradients of the same transitions, plain and scaled; signals; stored values."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0xFFFFFFFE), 300)
    slots = buffer.draw_uniform(key, parts.size, 300, 50)
    experience = buffer.take(state.memory.ring, parts.size, slots)
    batch = learning.transition(experience, parts.config)
    params = state.agent.params

    def one(example):
        loss = parts.agent.loss
        return jax.grad(loss, has_aux=True)(params, params, example, parts.config)

    gradients, signals = jax.jit(jax.vmap(one))(batch)
    rows = jnp.concatenate([g.reshape(50, -1) for g in jax.tree.leaves(gradients)], 1)
    moments = optax.tree.get(state.agent.optimizer, "nu")
    flat = jnp.concatenate([m.ravel() for m in jax.tree.leaves(moments)])
    count = optax.tree.get(state.agent.optimizer, "count") + 1
    nu = (0.999 * flat + 0.001 * rows.mean(0) ** 2) / (1 - 0.999**count)
    stored = blocked_sums.get(state.memory.priorities.tree, slots)
    return rows, rows / (jnp.sqrt(nu) + 1e-8), signals, stored


def by_definition(gradients, priority) -> float:
    """Trace of the covariance of one weighted draw, over that of a uniform one."""
    g, p = np.asarray(gradients, float), np.asarray(priority, float)
    p = p / p.sum()
    mean = g.mean(0)

    def trace(q):
        return sum(
            w * np.sum((x / (len(g) * w) - mean) ** 2)
            for w, x in zip(q, g, strict=True)
        )

    return trace(p) / trace(np.full(len(g), 1 / len(g)))


def test_a_large_batch_is_in_between_uniform_and_gradient_norms():
    parts, state = member(config(**{"replay.large_batch": 5}))
    found = jax.jit(functools.partial(measuring.diagnose, parts))(state, 300)
    norm = found["sampling_variance/gradient_norm"].value
    large = found["sampling_variance/large_batch"].value
    np.testing.assert_allclose(large, 0.2 + 0.8 * norm, rtol=1e-5)


def test_ranks_of_the_examples():
    signals = Signals(jnp.array([0.5, -3.0, 1.0]))
    found = measuring._fresh(priorities.rank, signals, None)
    np.testing.assert_allclose(found, [1 / 3, 1.0, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize("priority", ["uniform", "rank", "gradient_norm_last_layer"])
def test_a_run_logs_it_in_every_row(priority):
    value = config(network=Linear(), **{"replay.priority": priority})
    result = rg.train(members=rg.population(value, seeds=range(2)))
    names = {n for n in result.metrics if n.startswith("sampling_variance/")}
    declared = {m.name for m in METRICS if m.name.startswith("sampling_variance/")}
    absent = {n for n in declared if n.endswith(("own", "stored"))}
    assert names == (declared - absent if priority == "uniform" else declared)
    for name in names:
        assert result.metrics[name].shape == (2, 1)
        assert (result.metrics[name] > 0).all(), name
    best = result.metrics["sampling_variance/gradient_norm"]
    for name in names - {"sampling_variance/gradient_norm"}:
        if "preconditioned" not in name:
            assert (result.metrics[name] >= best - 1e-3).all(), name


def test_it_does_not_change_the_run():
    value = config(network=Linear(), optimizer=SGD())
    on = rg.train(members=rg.population(value))
    changed = rg.replace(value, {"diagnostics.sampling_variance": False})
    off = rg.train(members=rg.population(changed))
    jax.tree.map(np.testing.assert_array_equal, on.params, off.params)
    assert not any(n.startswith("sampling_variance") for n in off.metrics)


def test_an_optimizer_that_scales_all_alike_has_no_second_metric():
    value = config(optimizer=SGD(learning_rate=0.1), network=Linear())
    result = rg.train(members=rg.population(value))
    assert "sampling_variance/td_error" in result.metrics
    assert not any("preconditioned" in name for name in result.metrics)


@pytest.mark.parametrize("loss", ["sarsa", "double_q_learning"])
def test_control_agents(loss):
    value = config(agent=QLearning(loss=loss), network=Linear(), optimizer=SGD())
    result = rg.train(members=rg.population(value))
    assert np.isfinite(result.metrics["sampling_variance/gradient_norm"]).all()


def test_without_a_memory_it_is_refused():
    value = config(replay=None)
    with pytest.raises(ConfigError, match=r"sampling_variance=True: .* replay is null"):
        rg.train(members=rg.population(value))
