"""The ring against a plain list of everything that ever happened."""

import functools
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from rl_grads.replay import buffer
from rl_grads.replay.buffer import Experience, Size

NOTHING, TERMINATED, TRUNCATED = 0, 1, 2


# ----------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("capacity", "num_envs", "num_steps", "time_limit", "expected"),
    [
        (10, 1, 1, None, Size(11, 1, 1, 0)),
        (10, 3, 1, None, Size(5, 3, 1, 0)),  # ceil(10 / 3) + 1
        (10, 2, 2, None, Size(8, 2, 2, 0)),  # (ceil(10 / 4) + 1) * 2
        (1, 4, 4, None, Size(8, 4, 4, 0)),
        (10, 1, 1, 3, Size(11, 1, 1, 5)),  # ceil(11 / 3) + 1
        (10, 1, 1, 1, Size(11, 1, 1, 11)),  # Never more than there are rows.
        (10, 1, 1, 500, Size(11, 1, 1, 2)),
    ],
)
def test_sizes(capacity, num_envs, num_steps, time_limit, expected):
    size = buffer.sizes(capacity, num_envs, num_steps, time_limit)
    assert size == expected
    assert size.capacity >= capacity
    assert size.capacity < capacity + num_envs * num_steps


@pytest.mark.parametrize(
    ("time", "expected"), [(0, 0), (2, 4), (4, 8), (6, 12), (8, 12), (100, 12)]
)
def test_available(time, expected):
    size = buffer.sizes(12, num_envs=2, num_steps=2, time_limit=None)
    assert int(buffer.available(size, jnp.int32(time))) == expected


# ------------------------------------------------------------------------- the model


class Happened(NamedTuple):
    """One step of one environment, as the model remembers it."""

    s_tm1: int
    a_tm1: int
    r_t: float
    s_t: int
    ended: int


class World:
    """Environments whose observations are numbers that never repeat.

    Args:
        size: Sizes of the ring; its columns are the environments.
        ends: How each step ends, `[T, E]`; consumed in order.
        time_limit: Truncations that follow sooner than this are left out.
    """

    def __init__(self, size: Size, ends: np.ndarray, time_limit: int | None):
        self.size, self.ends, self.time_limit = size, ends, time_limit
        self.fresh = iter(range(1, 10**9))
        self.obs = [next(self.fresh) for _ in range(size.num_envs)]
        self.since_truncation = [10**9] * size.num_envs
        self.history: list[list[Happened]] = []

    def step(self) -> None:
        """One step in every environment."""
        self.history.append([self._one(e) for e in range(self.size.num_envs)])

    def _one(self, env: int) -> Happened:
        time = len(self.history)
        ended = int(self.ends[time, env])
        self.since_truncation[env] += 1
        if ended == TRUNCATED:
            ended = self._truncate(env)
        s_tm1, s_t = self.obs[env], next(self.fresh)
        self.obs[env] = next(self.fresh) if ended else s_t
        return Happened(s_tm1, (s_tm1 * 7) % 5, s_tm1 / 8, s_t, ended)

    def _truncate(self, env: int) -> int:
        limit = self.time_limit
        if limit is None or self.since_truncation[env] < limit:
            return NOTHING
        self.since_truncation[env] = 0
        return TRUNCATED

    def newest(self) -> tuple[Experience, np.ndarray]:
        """The last `num_steps` rows as the ring takes them, and what follows."""
        rows = self.history[-self.size.num_steps :]

        def column(get: Any, dtype: Any) -> np.ndarray:
            return np.array([[get(h) for h in row] for row in rows], dtype)

        new = Experience(
            s_tm1=column(lambda h: [h.s_tm1, -h.s_tm1], np.float32),
            a_tm1=column(lambda h: h.a_tm1, np.int32),
            r_t=column(lambda h: h.r_t, np.float32),
            s_t=column(lambda h: [h.s_t, -h.s_t], np.float32),
            terminated=column(lambda h: h.ended == TERMINATED, bool),
            truncated=column(lambda h: h.ended == TRUNCATED, bool),
            rho=column(lambda h: 0.5 + h.a_tm1, np.float32),
        )
        return new, self.frames()

    def frames(self) -> np.ndarray:
        return np.array([[o, -o] for o in self.obs], np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _create(size, obs):
    return buffer.create(size, obs, jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def _add(ring, size, time, new, obs):
    return buffer.add(ring, size, time, new, obs)


@functools.partial(jax.jit, static_argnums=1)
def _take_all(ring, size):
    return buffer.take(ring, size, jnp.arange(size.rows * size.num_envs))


def _compare(world: World, ring: buffer.Ring) -> None:
    """Every transition that is available equals the model's."""
    size, time = world.size, len(world.history)
    taken = jax.tree.map(np.asarray, _take_all(ring, size))
    count = min(time, size.rows - size.num_steps)
    for past in range(time - count, time):
        for env, happened in enumerate(world.history[past]):
            slot = (past % size.rows) * size.num_envs + env
            _compare_one(jax.tree.map(lambda x, i=slot: x[i], taken), happened)


def _compare_one(found: Experience, happened: Happened) -> None:
    assert found.s_tm1.tolist() == [happened.s_tm1, -happened.s_tm1]
    assert (found.a_tm1, found.r_t) == (happened.a_tm1, happened.r_t)
    assert found.rho == 0.5 + happened.a_tm1
    assert found.terminated == (happened.ended == TERMINATED)
    assert found.truncated == (happened.ended == TRUNCATED)
    if happened.ended != TERMINATED:
        assert found.s_t.tolist() == [happened.s_t, -happened.s_t]


# Few, so that the programs of each compile once: capacity, environments, steps, limit.
SHAPES = [
    (1, 1, 1, None),
    (1, 1, 1, 1),
    (5, 1, 1, 2),
    (7, 2, 1, 1),
    (12, 3, 2, 3),
    (10, 2, 4, 2),
    (16, 1, 3, 4),
]
STEPS = 48


def _ends(time_limit: int | None) -> Any:
    kinds = [NOTHING, NOTHING, TERMINATED]
    kinds += [] if time_limit is None else [TRUNCATED, TRUNCATED]
    row = st.lists(st.sampled_from(kinds), min_size=3, max_size=3)
    return st.lists(row, min_size=STEPS, max_size=STEPS).map(np.array)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=8)
def test_the_ring_equals_a_list(shape, data):
    capacity, num_envs, num_steps, time_limit = shape
    size = buffer.sizes(capacity, num_envs, num_steps, time_limit)
    assert size.capacity >= capacity
    world = World(size, data.draw(_ends(time_limit)), time_limit)
    ring = _create(size, world.frames())
    for time in range(0, STEPS - num_steps, num_steps):
        for _ in range(num_steps):
            world.step()
        ring = _add(ring, size, np.int32(time), *world.newest())
        _compare(world, ring)


@pytest.mark.parametrize("time_limit", [1, 3])
def test_the_side_store_is_large_enough_for_truncations_at_the_limit(time_limit):
    size = buffer.sizes(12, 2, 2, time_limit)
    world = World(size, np.full((80, 2), TRUNCATED), time_limit)
    ring = _create(size, world.frames())
    for time in range(0, 60, 2):
        world.step()
        world.step()
        ring = _add(ring, size, np.int32(time), *world.newest())
        _compare(world, ring)
    assert [h[0].ended for h in world.history].count(TRUNCATED) == 60 // time_limit


def _world_of_steps(size, period, steps):
    """A world that truncates every `period` steps, and the ring that saw it."""
    world = World(size, np.full((steps, size.num_envs), TRUNCATED), period)
    for env in range(size.num_envs):
        world.since_truncation[env] = -env  # Not all in the same step.
    ring = _create(size, world.frames())
    for time in range(0, steps, size.num_steps):
        for _ in range(size.num_steps):
            world.step()
        ring = _add(ring, size, np.int32(time), *world.newest())
    return world, ring


@pytest.mark.parametrize("num_steps", [1, 3, 6])
@pytest.mark.parametrize(
    ("declared", "period", "kept"),  # `kept`: the newest truncations of a column.
    [(None, 4, 0), (500, 4, 2), (500, 1, 2), (10, 2, 5), (3, 4, 99)],
)
def test_what_was_written_over_is_seen_whatever_is_declared(
    num_steps, declared, period, kept
):
    size = buffer.sizes(60, 2, num_steps, declared)
    assert size.rows == 30 + num_steps
    world, ring = _world_of_steps(size, period, 96)
    slots = np.arange(size.rows * 2)
    whole = np.asarray(buffer.is_whole(ring, size, slots))
    taken = jax.tree.map(np.asarray, _take_all(ring, size))
    lost = 0
    for env in range(2):
        truncations = 0
        for past in reversed(range(96 - size.rows + num_steps, 96)):
            happened, slot = world.history[past][env], past % size.rows * 2 + env
            truncations += happened.ended == TRUNCATED
            expected = happened.ended != TRUNCATED or truncations <= kept
            assert whole[slot] == expected
            if expected:
                _compare_one(jax.tree.map(lambda x, i=slot: x[i], taken), happened)
            lost += not expected
    assert (lost > 0) == (kept < 99)


def test_the_count_of_truncations_starts_again():
    size = buffer.sizes(10, num_envs=1, num_steps=1, time_limit=5)
    assert (size.rows, size.side, size.cycle) == (11, 4, 12)
    world, ring = _world_of_steps(size, 1, 29)
    assert ring.truncations.tolist() == [29 % 12]
    slots = jnp.array([t % 11 for t in range(19, 29)])
    assert buffer.is_whole(ring, size, slots).tolist() == [False] * 6 + [True] * 4
    assert buffer.take(ring, size, slots[6:]).s_t[:, 0].tolist() == [
        world.history[t][0].s_t for t in range(25, 29)
    ]


@pytest.mark.slow
def test_a_truncated_transition_ends_in_its_own_observation():
    size = buffer.sizes(4, num_envs=1, num_steps=1, time_limit=2)
    ring = buffer.create(size, jnp.array([[1.0]]), jnp.float32)
    new = Experience(
        s_tm1=jnp.array([[[1.0]]]),
        a_tm1=jnp.array([[0]]),
        r_t=jnp.array([[0.0]]),
        s_t=jnp.array([[[2.0]]]),
        terminated=jnp.array([[False]]),
        truncated=jnp.array([[True]]),
        rho=jnp.array([[1.0]]),
    )
    ring = buffer.add(ring, size, jnp.int32(0), new, jnp.array([[9.0]]))
    assert buffer.take(ring, size, jnp.array([0])).s_t.tolist() == [[2.0]]
    assert ring.obs[1].tolist() == [[9.0]]  # The next episode starts there.
    cut = new._replace(truncated=jnp.array([[False]]))
    ring = buffer.add(ring, size, jnp.int32(1), cut, jnp.array([[9.0]]))
    assert buffer.take(ring, size, jnp.array([1])).s_t.tolist() == [[9.0]]


# ---------------------------------------------------------------------------- storage


def _frames_ring(time_limit: int | None) -> tuple[Size, buffer.Ring]:
    size = buffer.sizes(100, num_envs=4, num_steps=5, time_limit=time_limit)
    obs = jnp.arange(4 * 6, dtype=jnp.uint8).reshape(4, 2, 3)
    return size, buffer.create(size, obs, jnp.float32)


def test_frames_keep_their_type_and_are_stored_once():
    size, ring = _frames_ring(None)
    assert ring.obs.dtype == jnp.uint8
    assert ring.obs.nbytes == (100 // 4 + 5) * 4 * 6
    arrays = jax.tree.leaves(ring)
    assert sum(a.nbytes for a in arrays if a.dtype == jnp.uint8) == ring.obs.nbytes
    assert (ring.final_obs, ring.truncations) == (None, None)
    drawn = buffer.take(ring, size, jnp.array([2]))
    assert drawn.s_tm1.dtype == drawn.s_t.dtype == jnp.uint8
    assert drawn.s_tm1[0].tolist() == [[12, 13, 14], [15, 16, 17]]


def test_final_frames_are_few():
    _, ring = _frames_ring(time_limit=10)
    assert ring.final_obs.dtype == jnp.uint8
    assert ring.final_obs.nbytes == (30 // 10 + 1) * 4 * 6


# ------------------------------------------------------------------------------ draws


@pytest.mark.parametrize("time", [2, 4, 8, 10, 12, 14, 16, 102])
def test_draws_are_uniform_over_what_is_available(time):
    size = buffer.sizes(12, num_envs=3, num_steps=2, time_limit=None)
    assert size.rows == 6
    draw = jax.jit(buffer.draw_uniform, static_argnums=(1, 3))
    drawn = draw(jax.random.key(time), size, jnp.int32(time), 30_000)
    rows = [t % size.rows for t in range(max(0, time - 4), time)]
    wanted = [row * 3 + column for row in rows for column in range(3)]
    counts = np.bincount(drawn, minlength=18)
    assert np.flatnonzero(counts).tolist() == sorted(wanted)
    assert stats.chisquare(counts[wanted]).pvalue > 1e-3


@pytest.mark.slow
def test_the_block_that_is_written_next_is_never_drawn():
    size = buffer.sizes(4, num_envs=1, num_steps=4, time_limit=None)
    drawn = buffer.draw_uniform(jax.random.key(0), size, jnp.int32(12), 1000)
    # Time 12: the rows 4-7 were written first, 0-3 last; 4-7 come next.
    assert sorted(set(drawn.tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_what_is_not_whole_is_left_out_and_the_rest_is_uniform(batch_size):
    size = buffer.sizes(36, num_envs=2, num_steps=2, time_limit=None)
    assert size.rows == 20
    _, ring = _world_of_steps(size, 3, 60)

    def draw(key, count):
        return buffer.draw_uniform(key, size, jnp.int32(60), count)

    def one(key):
        return buffer.draw_whole(draw, key, ring, size, batch_size)

    keys = jax.random.split(jax.random.key(0), 12_000 // batch_size)
    drawn = jax.jit(jax.vmap(one))(keys)
    whole = np.asarray(buffer.is_whole(ring, size, jnp.arange(40)))
    wanted = [slot for slot in range(4, 40) if whole[slot]]  # 0 to 3 come next.
    assert len(wanted) == 24  # Of 36; every third is truncated.
    counts = np.bincount(np.ravel(drawn.slots), minlength=40)
    assert np.flatnonzero(counts).tolist() == sorted(wanted)
    assert np.ptp(counts[wanted]) < 200  # Around 500 each.
    assert abs(float(drawn.lost.mean()) - 1 / 3) < 0.02


def test_where_nothing_is_lost_the_draws_are_what_they_were():
    size = buffer.sizes(36, num_envs=2, num_steps=2, time_limit=3)
    _, ring = _world_of_steps(size, 3, 60)

    def draw(key, count):
        return buffer.draw_uniform(key, size, jnp.int32(60), count)

    key = jax.random.key(1)
    drawn = buffer.draw_whole(draw, key, ring, size, 8)
    assert drawn.slots.tolist() == draw(key, 8).tolist()
    assert not np.any(drawn.lost)
    never = buffer.sizes(36, num_envs=2, num_steps=2, time_limit=1)
    assert buffer.draw_whole(draw, key, ring, never, 8).lost is None


def test_where_all_are_lost_they_stay_and_are_counted():
    size = buffer.sizes(10, num_envs=1, num_steps=1, time_limit=None)
    _, ring = _world_of_steps(size, 1, 20)

    def draw(key, count):
        return buffer.draw_uniform(key, size, jnp.int32(20), count)

    drawn = buffer.draw_whole(draw, jax.random.key(0), ring, size, 4)
    assert drawn.slots.shape == (4,) and np.all(drawn.lost)
