"""Sums in blocks: exact bookkeeping, and draws with the right frequencies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_grads.replay import blocked_sums
from rl_grads.replay.blocked_sums import BlockedSums


def holding(priorities: np.ndarray | list[float]) -> BlockedSums:
    values = jnp.asarray(priorities, jnp.float32)
    tree = blocked_sums.create(len(values))
    return blocked_sums.put(tree, jnp.arange(len(values)), values)


def consistent(tree: BlockedSums, rtol: float = 1e-6) -> None:
    leaves = np.asarray(tree.priorities, np.float64)
    np.testing.assert_allclose(tree.sums, leaves.sum(-1), rtol=rtol)
    np.testing.assert_allclose(blocked_sums.total(tree), leaves.sum(), rtol=rtol)


@functools.partial(jax.jit, static_argnums=(1, 2))
def frequencies(tree: BlockedSums, count: int, batch_size: int = 1) -> jax.Array:
    """How often each slot is among `count` batches."""

    def step(counts: jax.Array, key: jax.Array):
        return counts.at[blocked_sums.draw(key, tree, batch_size)].add(1), None

    start = jnp.zeros(tree.priorities.size, jnp.int32)
    return jax.lax.scan(step, start, jax.random.split(jax.random.key(0), count))[0]


@pytest.mark.parametrize(
    ("capacity", "shape"), [(1, (1, 1)), (3, (2, 2)), (9, (3, 3)), (1000, (32, 32))]
)
def test_create(capacity, shape):
    tree = blocked_sums.create(capacity)
    assert tree.priorities.shape == shape
    assert tree.sums.shape == shape[:1]
    assert float(blocked_sums.total(tree)) == 0.0


def test_put_and_get():
    tree = holding([1.0, 2.0, 4.0, 8.0, 16.0])  # Blocks of three.
    assert tree.sums.tolist() == [7.0, 24.0]
    assert float(blocked_sums.total(tree)) == 31.0
    assert blocked_sums.get(tree, jnp.array([4, 0, 4])).tolist() == [16.0, 1.0, 16.0]
    tree = blocked_sums.put(tree, jnp.array([1, 3]), jnp.array([0.5, 0.0]))
    assert tree.sums.tolist() == [5.5, 16.0]


def test_put_with_repeats_keeps_one_value_and_the_right_sums():
    tree = holding([1.0, 2.0, 4.0, 8.0, 16.0])
    slots = jnp.array([2, 0, 2, 2, 1])
    tree = blocked_sums.put(tree, slots, jnp.array([3.0, 5.0, 7.0, 9.0, 1.0]))
    kept = float(blocked_sums.get(tree, jnp.array([2]))[0])
    assert kept in (3.0, 7.0, 9.0)
    assert tree.sums.tolist() == [5.0 + 1.0 + kept, 24.0]


def test_a_hundred_thousand_updates_leave_no_error():
    def step(tree: BlockedSums, key: jax.Array):
        key_slot, key_value = jax.random.split(key)
        slots = jax.random.randint(key_slot, (100,), 0, 5000)
        # Over ten orders of magnitude, where running differences lose everything.
        values = 10 ** jax.random.uniform(key_value, (100,), minval=-5, maxval=5)
        return blocked_sums.put(tree, slots, values), None

    keys = jax.random.split(jax.random.key(0), 1000)
    tree, _ = jax.jit(lambda t: jax.lax.scan(step, t, keys))(blocked_sums.create(5000))
    consistent(tree)
    small = jnp.full(5000, 1e-6)
    tree = blocked_sums.put(tree, jnp.arange(5000), small)
    np.testing.assert_allclose(blocked_sums.total(tree), 5e-3, rtol=1e-6)


@pytest.mark.parametrize("capacity", [3, 1000, 2**17])
def test_draws_are_in_proportion_to_the_priorities(capacity):
    rng = np.random.default_rng(0)
    priorities = rng.gamma(0.5, size=capacity).astype(np.float32)
    count = 200_000 if capacity < 2**17 else 100_000
    counts = np.asarray(frequencies(holding(priorities), count))[:capacity]
    group = np.arange(capacity) % min(capacity, 500)  # Enough draws per group.
    expected = np.bincount(group, priorities.astype(np.float64))
    observed = np.bincount(group, counts)
    assert observed.sum() == count
    expected *= count / expected.sum()
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_every_slot_of_a_large_memory_can_be_drawn():
    """A float32 in [0, 1) has 2**23 random values, too few for 9e6 slots."""
    width = 3000
    tree = BlockedSums(jnp.ones((width, width)), jnp.full(width, float(width)))
    draw = jax.jit(jax.vmap(lambda key: blocked_sums.draw(key, tree, 1)[0]))
    keys = jax.random.split(jax.random.key(0), 6000).reshape(6, 1000)
    slots = np.concatenate([draw(some) for some in keys]).astype(np.int64)
    lower = slots[slots < 2**21]  # Where the position times 9e6 is hardly rounded.
    first = -(-lower * 2**23 // width**2)
    reachable = first * width**2 < (lower + 1) * 2**23
    # 2**23 / 9e6 of the slots; all the draws, if they depended on one number alone.
    assert abs(reachable.mean() - 0.932) < 0.03


def test_a_cumulative_sum_that_rises_at_zero_does_not_mislead():
    """A parallel sum rounds each prefix in its own way, even where nothing is added."""
    rng = np.random.default_rng(0)
    weights = 10.0 ** rng.uniform(-4, 4, size=(50, 2048))
    weights[rng.random(weights.shape) < 0.5] = 0.0
    weights = weights.astype(np.float32)
    cumulative = np.asarray(jax.jit(lambda w: jnp.cumsum(w, -1))(weights))
    row, place = np.nonzero((np.diff(cumulative) > 0) & (weights[:, 1:] == 0))
    level = cumulative[row, place] / cumulative[row, -1]
    misled = np.argmax(cumulative[row] > (level * cumulative[row, -1])[:, None], -1)
    assert (weights[row, misled] == 0).any()
    found = np.asarray(blocked_sums._find(weights[row], level))
    assert (weights[row, found] > 0).all()
    assert np.abs(found - misled).max() < 20


def test_a_priority_of_zero_is_never_drawn():
    rng = np.random.default_rng(0)
    priorities = 10.0 ** rng.uniform(-4, 4, size=1000)
    priorities[rng.random(1000) < 0.5] = 0.0
    priorities[900:] = 0.0
    counts = np.asarray(frequencies(holding(priorities), 1000, 1000))
    assert counts.sum() == 1_000_000
    assert counts[:1000][priorities == 0.0].sum() == 0
    assert counts[1000:].sum() == 0


@pytest.mark.parametrize("only", [0, 2, 3, 8])
def test_a_single_positive_priority_is_always_drawn(only):
    tree = holding(np.where(np.arange(9) == only, 1e-6, 0.0))
    drawn = blocked_sums.draw(jax.random.key(0), tree, 1000)
    assert set(drawn.tolist()) == {only}


def test_a_batch_is_spread_evenly_over_the_blocks():
    drawn = blocked_sums.draw(jax.random.key(0), holding(np.ones(16)), 8)
    assert np.bincount(drawn // 4).tolist() == [2, 2, 2, 2]


def test_all_zero_still_gives_valid_slots():
    drawn = blocked_sums.draw(jax.random.key(0), blocked_sums.create(10), 5)
    assert drawn.tolist() == [0] * 5
