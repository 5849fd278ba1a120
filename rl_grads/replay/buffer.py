"""A ring of transitions on the device; every frame is stored once.

The ring has one column per environment and one row per time step. Row `t` holds the
observation acted on at `t` and what followed; the next observation is row `t + 1`.
Only a truncated episode needs more, its final observation, kept in a small side
store whose size follows from the environment's time limit. Where that was declared too
large, or not at all, final observations are written over; each truncated row knows its
place in the count of truncations, so that such a transition is seen and left out.

Nothing here counts: positions are functions of `time`, the number of steps taken so
far, which all members of a population share. So writes are slices, not scatters.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# Slots that are drawn at least, where some may have to be left out.
_CANDIDATES = 16


class SecondDraw(NamedTuple):
    """What else could have followed from the same state, `[T, E, ...]`."""

    r_t: jax.Array
    s_t: jax.Array
    terminated: jax.Array
    rho: jax.Array


class Experience(NamedTuple):
    """What acting in `num_envs` environments for `num_steps` gives, `[T, E, ...]`.

    The transition's own final observation is `s_t`; after the end of an episode it
    differs from the observation that the next row starts with. A second draw, where
    an agent wants one, is used while it is new: the ring does not keep it.
    """

    s_tm1: jax.Array
    a_tm1: jax.Array
    r_t: jax.Array
    s_t: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    rho: jax.Array
    second: SecondDraw | None = None


class Ring(NamedTuple):
    """The stored rows, and the side store of final observations.

    Numbers of one kind share an array: a sample then needs one gather per kind.

    Attributes:
        obs: Observations acted on, `[rows, E, ...]`.
        floats: `r_t` and `rho`, `[rows, E, 2]`.
        ints: `a_tm1`, `terminated`, `truncated`, and what `truncations` became by a
            truncated row, `[rows, E, 4]`.
        final_obs: Final observations of truncated episodes, `[side, E, ...]`; None if
            episodes are never truncated.
        truncations: Truncations so far, modulo `Size.cycle`, `[E]`; None likewise.
    """

    obs: jax.Array
    floats: jax.Array
    ints: jax.Array
    final_obs: jax.Array | None
    truncations: jax.Array | None


class Size(NamedTuple):
    """Static sizes of a ring.

    Attributes:
        rows: Rows of the ring, a multiple of `num_steps`.
        num_envs: Columns.
        num_steps: Rows written at a time.
        side: Rows of the side store; 0 if episodes are never truncated.
    """

    rows: int
    num_envs: int
    num_steps: int
    side: int

    @property
    def cycle(self) -> int:
        """Where the count of truncations starts again: a multiple of `side`, > rows."""
        return self.side * (self.rows // self.side + 1)

    @property
    def capacity(self) -> int:
        """How many transitions can be sampled when the ring is full."""
        return (self.rows - self.num_steps) * self.num_envs


def sizes(capacity: int, num_envs: int, num_steps: int, time_limit: int | None) -> Size:
    """Static sizes of a ring that keeps at least `capacity` transitions.

    Args:
        capacity: Transitions that must remain available.
        num_envs: Environments, the columns.
        num_steps: Rows written at a time. One such block beyond the capacity holds
            the newest observation.
        time_limit: Fewest steps between two truncations of one environment; None
            if episodes are never truncated.

    Example:
        >>> sizes(1000, num_envs=4, num_steps=5, time_limit=100)
        Size(rows=255, num_envs=4, num_steps=5, side=4)
    """
    blocks = math.ceil(capacity / (num_envs * num_steps)) + 1
    rows = blocks * num_steps
    side = 0 if time_limit is None else min(rows, math.ceil(rows / time_limit) + 1)
    return Size(rows, num_envs, num_steps, side)


def create(size: Size, obs: jax.Array, dtype: DTypeLike) -> Ring:
    """An empty ring that starts at the observations `obs`, `[E, ...]`."""
    grid = (size.rows, size.num_envs)
    frames = jnp.zeros(grid + obs.shape[1:], obs.dtype).at[0].set(obs)
    side = size.side > 0
    return Ring(
        obs=frames,
        floats=jnp.zeros((*grid, 2), dtype),
        ints=jnp.zeros((*grid, 4), jnp.int32),
        final_obs=jnp.zeros((size.side, *obs.shape), obs.dtype) if side else None,
        truncations=jnp.zeros(size.num_envs, jnp.int32) if side else None,
    )


def add(
    ring: Ring, size: Size, time: jax.Array, new: Experience, obs: jax.Array
) -> Ring:
    """Write `num_steps` rows at `time` and the observation that follows them.

    Args:
        ring: The ring.
        size: Its sizes.
        time: Steps taken before these, a multiple of `num_steps`.
        new: What happened, `[num_steps, E, ...]`.
        obs: Observations to act on next, `[E, ...]`.
    """
    row = time % size.rows
    head = (time + size.num_steps) % size.rows
    ring, side_row = _add_final(ring, size, new)
    ints = (new.a_tm1, new.terminated, new.truncated, side_row)
    frames = _write(ring.obs, new.s_tm1, row)
    return ring._replace(
        obs=_write(frames, obs[None], head),
        floats=_write(ring.floats, jnp.stack((new.r_t, new.rho), -1), row),
        ints=_write(ring.ints, _stacked_ints(ints), row),
    )


def _stacked_ints(fields: tuple[jax.Array, ...]) -> jax.Array:
    return jnp.stack([field.astype(jnp.int32) for field in fields], -1)


def _write(rows: jax.Array, new: jax.Array, row: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(rows, new.astype(rows.dtype), row, 0)


def _add_final(ring: Ring, size: Size, new: Experience) -> tuple[Ring, jax.Array]:
    """Keep the final observations of truncated episodes; the counts, `[T, E]`."""
    if ring.final_obs is None or ring.truncations is None:
        return ring, jnp.zeros_like(new.a_tm1)
    count = ring.truncations + jnp.cumsum(new.truncated, 0, dtype=jnp.int32)
    # One that is written over in this very block is not written: the order is open.
    lasts = new.truncated & (count[-1] - count < size.side)
    target = jnp.where(lasts, count % size.side, size.side)  # Out of range: dropped.
    column = jnp.broadcast_to(jnp.arange(size.num_envs), target.shape)
    final_obs = ring.final_obs.at[target, column].set(new.s_t, mode="drop")
    count %= size.cycle
    return ring._replace(final_obs=final_obs, truncations=count[-1]), count


def cut(ring: Ring, size: Size, time: jax.Array, obs: jax.Array) -> Ring:
    """End the episodes that run after `time` steps; the next ones start at `obs`.

    The newest transitions become truncated, so that they bootstrap from the
    observation that followed and not from `obs`. The side store has room for one cut
    per turn of the ring beside the environments' own truncations.

    Args:
        ring: The ring, with a side store.
        size: Its sizes.
        time: Steps taken so far, at least one.
        obs: Observations to act on next, `[E, ...]`.

    Raises:
        ValueError: The ring has no side store.
    """
    if ring.final_obs is None:
        raise ValueError("cut: expected a ring with a side store, got side=0")
    column = jnp.arange(size.num_envs)
    newest = take(ring, size, (time - 1) % size.rows * size.num_envs + column)
    newest = newest._replace(truncated=~newest.terminated)
    again = jax.tree.map(lambda x: x[None], newest)
    return add(ring, size._replace(num_steps=1), time - 1, again, obs)


def available(size: Size, time: jax.Array) -> jax.Array:
    """How many transitions can be sampled after `time` steps."""
    return jnp.minimum(time, size.rows - size.num_steps) * size.num_envs


def draw_uniform(
    key: jax.Array, size: Size, time: jax.Array, batch_size: int
) -> jax.Array:
    """Slots of uniformly drawn transitions, with replacement, `[batch_size]`.

    A slot is `row * num_envs + column`. The remainder of 32 random bits favours some
    transitions by less than one part in `2**32 / available`.
    """
    count = available(size, time).astype(jnp.uint32)
    draw = (jax.random.bits(key, (batch_size,)) % count).astype(jnp.int32)
    age, column = draw // size.num_envs, draw % size.num_envs
    row = (time - 1 - age) % size.rows
    return row * size.num_envs + column


class Drawn(NamedTuple):
    """Slots, `[B]`.

    Attributes:
        slots: Where whole transitions lie.
        first: What was drawn at first.
        lost: Where that is not whole, so that another slot stands for it; None where
            no final observation can be written over.
        found: Whether there was one to stand for them, a scalar.
    """

    slots: jax.Array
    first: jax.Array
    lost: jax.Array | None
    found: jax.Array | bool = True


def draw_whole(
    draw: Callable[[jax.Array, int], jax.Array],
    key: jax.Array,
    ring: Ring,
    size: Size,
    batch_size: int,
) -> Drawn:
    """Draw slots, and others for those whose final observation was written over.

    Others are what was drawn before them, or last; a small batch draws some more to
    choose from. Only where all are lost, they stay.

    Args:
        draw: `draw(key, count) -> [count]`, slots drawn independently.
        key: PRNG key.
        ring: The ring.
        size: Its sizes.
        batch_size: Slots wanted.
    """
    first = draw(key, batch_size)
    if size.side >= size.rows:
        return Drawn(first, first, None)
    slots, whole = first, is_whole(ring, size, first)
    lost = ~whole
    if batch_size < _CANDIDATES:
        more = draw(jax.random.fold_in(key, 1), _CANDIDATES - batch_size)
        slots = jnp.concatenate([slots, more])
        whole = jnp.concatenate([whole, is_whole(ring, size, more)])
    before = jax.lax.cummax(jnp.where(whole, jnp.arange(len(slots)), -1))
    place = jnp.where(before >= 0, before, before[-1])[:batch_size]
    return Drawn(slots[place], first, lost, before[-1] >= 0)


def is_whole(ring: Ring, size: Size, slots: jax.Array) -> jax.Array:
    """Whether the transitions in these slots have their own `s_t`, `[B]` bool."""
    ints = _flat(ring.ints)[slots]
    truncated = ints[:, 2].astype(bool)
    if ring.truncations is None:
        return ~truncated
    since = (ring.truncations[slots % size.num_envs] - ints[:, 3]) % size.cycle
    return ~truncated | (since < size.side)


def part_left_out(ring: Ring, size: Size, time: jax.Array) -> jax.Array:
    """Part of what could be drawn after `time` steps that is not whole, a scalar."""
    slots = jnp.arange(size.rows * size.num_envs)
    age = (time - 1 - slots // size.num_envs) % size.rows
    stored = age < jnp.minimum(time, size.rows - size.num_steps)
    lost = jnp.sum(stored & ~is_whole(ring, size, slots), dtype=jnp.int32)
    return lost / jnp.maximum(available(size, time), 1)


def take(ring: Ring, size: Size, slots: jax.Array) -> Experience:
    """The transitions in these slots, `[B, ...]`.

    `s_t` of a terminated transition is the next episode's first observation, and that
    of one that is not whole has no meaning (see `is_whole`).
    """
    frames, count = _flat(ring.obs), size.rows * size.num_envs
    floats, ints = _flat(ring.floats)[slots], _flat(ring.ints)[slots]
    s_t = frames[(slots + size.num_envs) % count]
    truncated = ints[:, 2].astype(bool)
    if ring.final_obs is not None:
        mask = truncated.reshape(truncated.shape + (1,) * (s_t.ndim - 1))
        final = ring.final_obs[ints[:, 3] % size.side, slots % size.num_envs]
        s_t = jnp.where(mask, final, s_t)
    return Experience(
        s_tm1=frames[slots],
        a_tm1=ints[:, 0],
        r_t=floats[:, 0],
        s_t=s_t,
        terminated=ints[:, 1].astype(bool),
        truncated=truncated,
        rho=floats[:, 1],
    )


def _flat(rows: jax.Array) -> jax.Array:
    """`[rows, E, ...]` as `[slots, ...]`.

    Reading through this shape also keeps XLA from fusing the preceding write into the
    read, for which it would copy the whole ring at every iteration.
    """
    return rows.reshape(-1, *rows.shape[2:])
