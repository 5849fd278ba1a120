"""Prioritised replay: what is new, what is stale, and the importance weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import register
from rl_grads.replay import blocked_sums, buffer, memory
from rl_grads.replay.buffer import Experience, Size
from rl_grads.replay.schema import Importance, Replay
from rl_grads.td.transition import Signals
from rl_grads.training.schema import Config, Training


def setting(
    batch_size: int = 2, priority: str = "td_error", exponent: float = 1.0, **importance
) -> Config:
    return Config(
        replay=Replay(
            priority=priority, exponent=exponent, importance=Importance(**importance)
        ),
        training=Training(batch_size=batch_size),
    )


def experience(size: Size, reward: float) -> Experience:
    grid = (size.num_steps, size.num_envs)
    return Experience(
        s_tm1=np.zeros((*grid, 1), np.float32),
        a_tm1=np.zeros(grid, np.int32),
        r_t=np.full(grid, reward, np.float32),
        s_t=np.zeros((*grid, 1), np.float32),
        terminated=np.zeros(grid, bool),
        truncated=np.zeros(grid, bool),
        rho=np.ones(grid, np.float32),
    )


def filled(config: Config, size: Size, steps: int) -> memory.Memory:
    """A memory after so many steps; rewards count the blocks written."""
    obs = jnp.zeros((size.num_envs, 1))
    kept = memory.create(size, obs, jnp.float32, config)
    for time in range(0, steps, size.num_steps):
        new = experience(size, time // size.num_steps)
        kept = ADD(kept, size, np.int32(time), new, obs, config)
    return kept


def errors(*values: float) -> Signals:
    return Signals(jnp.array(values))


def leaves(kept: memory.Memory) -> np.ndarray:
    return np.asarray(kept.priorities.tree.levels[0]).ravel()


def with_tree(kept: memory.Memory, tree: blocked_sums.BlockedSums) -> memory.Memory:
    return kept._replace(priorities=kept.priorities._replace(tree=tree))


ADD = jax.jit(memory.add, static_argnums=1)
SAMPLE = jax.jit(memory.sample, static_argnums=1)
PRIORITISE = jax.jit(memory.prioritise)
TWO = buffer.sizes(2, num_envs=1, num_steps=1, time_limit=None)  # Three rows.


# --------------------------------------------------------------------------- uniform


@pytest.mark.slow
def test_uniform_memory_holds_no_priorities():
    config = setting(priority="uniform", batch_size=64)
    kept = filled(config, TWO, 5)
    assert kept.priorities is None
    sample = SAMPLE(kept, TWO, jnp.int32(5), jax.random.key(0), config)
    assert sample.weights is None
    assert set(sample.experience.r_t.tolist()) == {3.0, 4.0}
    assert memory.prioritise(kept, sample.slots, errors(1.0), config) is kept


# ------------------------------------------------------------------------ priorities


def test_new_transitions_enter_at_the_largest_priority_and_stale_ones_leave():
    config = setting()
    kept = filled(config, TWO, 2)
    assert leaves(kept)[:3].tolist() == [1.0, 1.0, 0.0]
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(0.5, -3.0), config)
    np.testing.assert_allclose(leaves(kept)[:3], [0.5, 3.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(kept.priorities.largest, 3.0, rtol=1e-6)
    obs = jnp.zeros((1, 1))
    kept = ADD(kept, TWO, jnp.int32(2), experience(TWO, 2), obs, config)
    # Row 2 is new; row 0 comes next, and its observation is the newest one.
    np.testing.assert_allclose(leaves(kept)[:3], [0.0, 3.0, 3.0], rtol=1e-5)


def test_the_largest_priority_never_falls():
    config = setting()
    kept = filled(config, TWO, 2)
    for error in (3.0, 0.125):
        kept = PRIORITISE(kept, jnp.array([1]), errors(error), config)
    np.testing.assert_allclose(kept.priorities.largest, 3.0, rtol=1e-6)


def test_priorities_are_raised_to_the_exponent():
    config = setting(exponent=0.5)
    kept = filled(config, TWO, 2)
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(4.0, -9.0), config)
    np.testing.assert_allclose(leaves(kept)[:2], [2.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(kept.priorities.largest, 3.0, rtol=1e-5)


@pytest.mark.parametrize("priority", ["td_error", "rank"])
def test_priorities_are_float32_whatever_the_precision(priority):
    with jax.enable_x64(True):
        config = jax.tree.map(jnp.asarray, setting(priority=priority))
        kept = filled(config, TWO, 2)
        after = PRIORITISE(kept, jnp.array([0, 1]), errors(0.5, -3.0), config)
        assert jax.tree.map(jnp.result_type, after) == jax.tree.map(
            jnp.result_type, kept
        )
        assert after.priorities.largest.dtype == jnp.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_error_that_is_not_finite_leaves_the_priority_as_it_was(bad):
    config = setting()
    kept = filled(config, TWO, 2)
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(0.25, 2.0), config)
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(bad, 4.0), config)
    np.testing.assert_allclose(leaves(kept)[:3], [0.25, 4.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(kept.priorities.largest, 4.0, rtol=1e-5)
    assert np.isfinite(blocked_sums.total(kept.priorities.tree))


@pytest.mark.slow
def test_where_all_priorities_are_zero_the_draw_is_uniform(monkeypatch):
    known = {**register._COMPONENTS["priority"], "plain": lambda s, c: s.td_error}
    monkeypatch.setitem(register._COMPONENTS, "priority", known)
    config = setting(priority="plain", batch_size=1000)
    kept = filled(config, TWO, 2)
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(0.0, 0.0), config)
    drawn = SAMPLE(kept, TWO, jnp.int32(2), jax.random.key(0), config)
    assert abs(drawn.slots.mean() - 0.5) < 0.05 and drawn.slots.max() == 1
    np.testing.assert_allclose(drawn.weights, 1.0, rtol=1e-6)
    kept = PRIORITISE(kept, jnp.array([1]), errors(1e-20), config)
    drawn = SAMPLE(kept, TWO, jnp.int32(2), jax.random.key(0), config)
    assert set(drawn.slots.tolist()) == {1}


def test_a_negative_priority_does_not_enter(monkeypatch):
    known = {**register._COMPONENTS["priority"], "signed": lambda s, c: s.td_error}
    monkeypatch.setitem(register._COMPONENTS, "priority", known)
    config = setting(priority="signed")
    kept = filled(config, TWO, 2)
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(-5.0, 0.25), config)
    assert leaves(kept)[:3].tolist() == [1.0, 0.25, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 3])
def test_only_what_is_available_can_be_drawn(num_steps):
    size = buffer.sizes(12, num_envs=2, num_steps=num_steps, time_limit=None)
    config = setting(batch_size=500)
    kept = filled(config, size, 5 * size.rows)
    time = jnp.int32(5 * size.rows)
    drawn = SAMPLE(kept, size, time, jax.random.key(0), config)
    blocks = (size.rows - num_steps) // num_steps
    newest = 5 * size.rows // num_steps - 1
    wanted = {float(newest - age) for age in range(blocks)}
    assert set(drawn.experience.r_t.tolist()) == wanted
    assert np.count_nonzero(leaves(kept)) == int(buffer.available(size, time)) == 12


# ----------------------------------------------------------------------------- ranks


@pytest.mark.slow
def test_priorities_by_rank():
    config = setting(priority="rank", exponent=0.5)
    size = buffer.sizes(4, num_envs=1, num_steps=1, time_limit=None)
    kept = filled(config, size, 4)
    assert leaves(kept)[4] == 0.0
    kept = PRIORITISE(kept, jnp.arange(4), errors(0.5, -3.0, 0.1, 7.0), config)
    kept = ADD(kept, size, np.int32(4), experience(size, 4), jnp.zeros((1, 1)), config)
    # Slot 0 is gone; slot 4 is new and ties with the largest, 7.
    found = leaves(kept)[:5]
    np.testing.assert_allclose(found[:3], [0.0, 3**-0.5, 4**-0.5], rtol=1e-5)
    np.testing.assert_allclose(sorted(found[3:]), [2**-0.5, 1.0], rtol=1e-5)
    assert float(kept.priorities.largest) == 7.0


def test_a_score_that_is_not_finite_keeps_its_rank():
    config = setting(priority="rank")
    size = buffer.sizes(4, num_envs=1, num_steps=1, time_limit=None)
    kept = filled(config, size, 4)
    kept = PRIORITISE(kept, jnp.arange(4), errors(4.0, 3.0, 2.0, 1.0), config)
    kept = PRIORITISE(kept, jnp.array([1]), errors(np.nan), config)
    assert kept.priorities.ranking.scores.tolist() == [4.0, 3.0, 2.0, 1.0, -1.0]


@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_ranks_draw_only_what_is_available(exponent):
    config = setting(priority="rank", exponent=exponent, batch_size=500)
    size = buffer.sizes(12, num_envs=2, num_steps=3, time_limit=None)
    kept = filled(config, size, 5 * size.rows)
    drawn = SAMPLE(kept, size, jnp.int32(5 * size.rows), jax.random.key(0), config)
    newest = 5 * size.rows // 3 - 1
    assert set(drawn.experience.r_t.tolist()) == {float(newest), newest - 1.0}


# ----------------------------------------------------------------------- large batches


def test_a_large_batch_is_drawn_uniformly():
    config = setting(priority="large_batch", batch_size=32)
    config.replay.large_batch = 3
    kept = filled(config, TWO, 5)
    assert kept.priorities is None
    drawn = SAMPLE(kept, TWO, jnp.int32(5), jax.random.key(0), config)
    assert drawn.slots.shape == (96,)
    assert drawn.weights is None
    after = memory.prioritise(kept, drawn.slots, errors(*[1.0] * 32), config)
    assert after is kept


def test_an_estimator_that_does_not_choose_is_refused():
    config = setting(priority="large_batch", batch_size=2)
    kept = filled(config, TWO, 5)
    with pytest.raises(ValueError, match=r"large_batch: .* 2 of 8 examples"):
        memory.prioritise(kept, jnp.zeros(8, int), errors(*[1.0] * 8), config)


# ---------------------------------------------------------------- importance weights


def weights_of(exponent: float, normalise: str) -> tuple[list[float], float]:
    """Weights of two slots with probabilities 1/4 and 3/4, and the batch's mean."""
    config = setting(batch_size=64)
    config.replay.importance = Importance(exponent=exponent, normalise=normalise)
    kept = filled(config, TWO, 2)
    tree = blocked_sums.put(
        kept.priorities.tree, jnp.array([0, 1]), jnp.array([1.0, 3.0])
    )
    kept = with_tree(kept, tree)
    drawn = SAMPLE(kept, TWO, jnp.int32(2), jax.random.key(1), config)
    found = dict(zip(drawn.slots.tolist(), drawn.weights.tolist(), strict=True))
    return [found[0], found[1]], float(drawn.weights.mean())


@pytest.mark.parametrize(
    ("exponent", "normalise", "expected"),
    [
        (1.0, "none", [2.0, 2 / 3]),  # 1 / (2 * 1/4), 1 / (2 * 3/4)
        (0.5, "none", [2**0.5, (2 / 3) ** 0.5]),
        (0.0, "none", [1.0, 1.0]),
        (1.0, "max", [1.0, 1 / 3]),
        (0.5, "max", [1.0, 3**-0.5]),
    ],
)
def test_importance_weights(exponent, normalise, expected):
    found, _ = weights_of(exponent, normalise)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_importance_weights_with_mean_one():
    found, mean = weights_of(1.0, "mean")
    np.testing.assert_allclose(mean, 1.0, rtol=1e-6)
    np.testing.assert_allclose(found[0] / found[1], 3.0, rtol=1e-6)


def test_weights_correct_the_bias_of_the_draws():
    """The weighted mean over many draws is the plain mean of what is stored."""
    config = setting(batch_size=20_000, exponent=1.0, normalise="none")
    kept = filled(config, TWO, 2)
    kept = PRIORITISE(kept, jnp.array([0, 1]), errors(1.0, 3.0), config)
    drawn = SAMPLE(kept, TWO, jnp.int32(2), jax.random.key(0), config)
    np.testing.assert_allclose(drawn.experience.r_t.mean(), 0.75, atol=0.02)
    weighted = drawn.weights * drawn.experience.r_t
    np.testing.assert_allclose(weighted.mean(), 0.5, atol=0.02)


@pytest.mark.slow
def test_weights_are_differentiable_in_their_exponent():
    config = setting(batch_size=64)
    kept = filled(config, TWO, 2)
    tree = blocked_sums.put(
        kept.priorities.tree, jnp.array([0, 1]), jnp.array([1.0, 3.0])
    )

    def weights(exponent):
        config.replay.importance = Importance(exponent=exponent, normalise="none")
        at = (with_tree(kept, tree), TWO, jnp.int32(2), jax.random.key(1))
        return SAMPLE(*at, config).weights

    slope = jax.jacobian(weights)(1.0)
    # w = (2 P) ** -e, dw/de = -log(2 P) * w
    found = sorted(set(np.round(slope, 5).tolist()))
    expected = [-np.log(1.5) / 1.5, np.log(2) * 2]
    np.testing.assert_allclose(found, expected, atol=2e-5)
