"""Sums in blocks: exact bookkeeping, and draws with the right frequencies."""

import functools
import itertools

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


def leaves(tree: BlockedSums) -> np.ndarray:
    return np.asarray(tree.levels[0], np.float64).ravel()


def consistent(tree: BlockedSums, rtol: float = 1e-6) -> None:
    for below, level in itertools.pairwise(tree.levels):
        rows = np.asarray(below, np.float64).sum(-1)
        np.testing.assert_allclose(level.ravel()[: len(rows)], rows, rtol=rtol)
        assert not level.ravel()[len(rows) :].any()
    np.testing.assert_allclose(blocked_sums.total(tree), leaves(tree).sum(), rtol=rtol)


@functools.partial(jax.jit, static_argnums=(1, 2))
def frequencies(tree: BlockedSums, count: int, batch_size: int = 1) -> jax.Array:
    """How often each slot is among `count` batches."""

    def step(counts: jax.Array, key: jax.Array):
        return counts.at[blocked_sums.draw(key, tree, batch_size)].add(1), None

    start = jnp.zeros(tree.levels[0].size, jnp.int32)
    return jax.lax.scan(step, start, jax.random.split(jax.random.key(0), count))[0]


@pytest.mark.parametrize(
    ("capacity", "shapes"),
    [
        (1, [(1, 1)]),
        (3, [(1, 3)]),
        (8, [(1, 8)]),
        (9, [(3, 3), (1, 3)]),
        (1000, [(167, 6), (28, 6), (5, 6), (1, 6)]),
        (100_000, [(14286, 7), (2041, 7), (292, 7), (42, 7), (6, 7), (1, 7)]),
        (2**20, [(2**n, 8) for n in (17, 14, 11, 8, 5, 2, 0)]),
    ],
)
def test_create(capacity, shapes):
    tree = blocked_sums.create(capacity)
    assert [level.shape for level in tree.levels] == shapes
    assert float(blocked_sums.total(tree)) == 0.0


NINE = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]


@pytest.fixture
def narrow(monkeypatch):
    """Rows of three, so that few priorities have several levels."""
    monkeypatch.setattr(blocked_sums, "WIDTH", 3)


@pytest.mark.slow
def test_put_and_get(narrow):
    tree = holding(NINE)
    assert tree.levels[1].tolist() == [[7.0, 56.0, 448.0]]
    assert float(blocked_sums.total(tree)) == 511.0
    assert blocked_sums.get(tree, jnp.array([4, 0, 4])).tolist() == [16.0, 1.0, 16.0]
    tree = blocked_sums.put(tree, jnp.array([1, 3]), jnp.array([0.5, 0.0]))
    assert tree.levels[1].tolist() == [[5.5, 48.0, 448.0]]


def test_put_with_repeats_keeps_one_value_and_the_right_sums(narrow):
    slots = jnp.array([2, 0, 2, 2, 1])
    tree = blocked_sums.put(holding(NINE), slots, jnp.array([3.0, 5.0, 7.0, 9.0, 1.0]))
    kept = float(blocked_sums.get(tree, jnp.array([2]))[0])
    assert kept in (3.0, 7.0, 9.0)
    assert tree.levels[1].tolist() == [[5.0 + 1.0 + kept, 56.0, 448.0]]


@pytest.mark.parametrize("capacity", [1, 7, 8, 9, 500])
def test_building_is_putting_all(capacity):
    values = jnp.arange(1.0, capacity + 1)
    built, put = blocked_sums.build(values), holding(np.asarray(values))
    jax.tree.map(np.testing.assert_array_equal, built, put)
    consistent(built)


@pytest.mark.slow
def test_a_million_updates_leave_no_error():
    def step(tree: BlockedSums, key: jax.Array):
        key_slot, key_value = jax.random.split(key)
        slots = jax.random.randint(key_slot, (1000,), 0, 100_000)
        # Over ten orders of magnitude, where running differences lose everything.
        values = 10 ** jax.random.uniform(key_value, (1000,), minval=-5, maxval=5)
        return blocked_sums.put(tree, slots, values), None

    keys = jax.random.split(jax.random.key(0), 1000)
    start = blocked_sums.create(100_000)
    tree, _ = jax.jit(lambda t: jax.lax.scan(step, t, keys))(start)
    consistent(tree)
    small = jnp.full(100_000, 1e-6)
    tree = blocked_sums.put(tree, jnp.arange(100_000), small)
    np.testing.assert_allclose(blocked_sums.total(tree), 0.1, rtol=1e-6)


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_slot_of_a_large_memory_can_be_drawn():
    """A float32 in [0, 1) has 2**23 random values, too few for 9e6 slots."""
    capacity = 9_000_000
    draw = jax.jit(lambda tree, key: blocked_sums.draw(key, tree, 6000))
    slots = np.asarray(draw(blocked_sums.build(jnp.ones(capacity)), jax.random.key(0)))
    lower = slots[slots < 2**21].astype(np.int64)
    first = -(-lower * 2**23 // capacity)
    reachable = first * capacity < (lower + 1) * 2**23
    # 2**23 / 9e6 of the slots; all the draws, if they depended on one number alone.
    assert abs(reachable.mean() - 0.932) < 0.03


def test_a_level_on_an_edge_finds_the_next_positive_weight():
    rng = np.random.default_rng(0)
    weights = 10.0 ** rng.uniform(-4, 4, size=(8, 50_000))
    weights[rng.random(weights.shape) < 0.5] = 0.0
    weights[7, weights.sum(0) == 0] = 1.0
    weights = weights.astype(np.float32)
    find = jax.jit(blocked_sums._find)
    edges = np.cumsum(weights, 0, dtype=np.float32) / weights.sum(0)
    for level in (*edges[:-1], np.zeros(50_000, np.float32)):
        found = find(weights, np.minimum(level, np.float32(1 - 2**-23)))
        assert (weights[found, np.arange(50_000)] > 0).all()


@pytest.mark.slow
def test_a_priority_of_zero_is_drawn_0_times_in_1e7():
    rng = np.random.default_rng(0)
    priorities = 10.0 ** rng.uniform(-4, 4, size=100_000)
    priorities[rng.random(100_000) < 0.5] = 0.0
    priorities[90_000:] = 0.0
    counts = np.asarray(frequencies(holding(priorities), 10_000, 1000))
    assert counts.sum() == 10_000_000
    assert counts[:100_000][priorities == 0.0].sum() == 0
    assert counts[100_000:].sum() == 0


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


@pytest.mark.slow
def test_a_batch_is_spread_evenly_over_the_top_level(narrow):
    drawn = blocked_sums.draw(jax.random.key(0), holding(np.ones(9)), 12)
    assert np.bincount(drawn // 3).tolist() == [4, 4, 4]


@pytest.mark.slow
def test_members_draw_from_their_own_sums():
    def only(slot: int) -> BlockedSums:
        return holding(np.eye(50)[slot])

    trees = jax.tree.map(lambda *x: jnp.stack(x), only(7), only(31), only(49))

    @jax.jit
    @jax.vmap
    def put_and_draw(key, tree, slot):
        tree = blocked_sums.put(tree, slot[None], jnp.ones(1))
        return blocked_sums.draw(key, tree, 100)

    keys = jax.random.split(jax.random.key(0), 3)
    drawn = put_and_draw(keys, trees, jnp.array([3, 31, 0]))
    assert [set(d) for d in drawn.tolist()] == [{3, 7}, {31}, {0, 49}]
