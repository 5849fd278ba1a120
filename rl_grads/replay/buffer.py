"""A ring of transitions on the device; every frame is stored once.

The ring has one column per environment and one row per time step. Row `t` holds the
observation acted on at `t` and what followed; the next observation is row `t + 1`.
Only a truncated episode needs more, its final observation, kept in a small side
store whose size follows from the environment's time limit.

Nothing here counts: positions are functions of `time`, the number of steps taken so
far, which all members of a population share. So writes are slices, not scatters.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Experience(NamedTuple):
    """What acting in `num_envs` environments for `num_steps` gives, `[T, E, ...]`.

    The transition's own final observation is `s_t`; after the end of an episode it
    differs from the observation that the next row starts with.
    """

    s_tm1: jax.Array
    a_tm1: jax.Array
    r_t: jax.Array
    s_t: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    rho: jax.Array


class Ring(NamedTuple):
    """The stored rows, `[rows, E, ...]`, and the side store, `[side, E, ...]`."""

    obs: jax.Array
    a_tm1: jax.Array
    r_t: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    rho: jax.Array
    final_at: jax.Array | None  # Where a truncated row's final observation is, [rows, E].
    final_obs: jax.Array | None  # [side, E, ...]
    truncations: jax.Array | None  # Truncations so far, [E].


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
    def capacity(self) -> int:
        """How many transitions can be sampled when the ring is full."""
        return (self.rows - self.num_steps) * self.num_envs


def sizes(
    capacity: int, num_envs: int, num_steps: int, time_limit: int | None
) -> Size:
    """Static sizes of a ring that keeps at least `capacity` transitions.

    Args:
        capacity: Transitions that must remain available.
        num_envs: Environments, the columns.
        num_steps: Rows written at a time. One such block beyond the capacity holds
            the newest observation.
        time_limit: Fewest steps between two truncations of one environment; None
            if episodes are never truncated.
    """
    blocks = math.ceil(capacity / (num_envs * num_steps)) + 1
    rows = blocks * num_steps
    side = 0 if time_limit is None else min(rows, math.ceil(rows / time_limit) + 1)
    return Size(rows, num_envs, num_steps, side)


def create(size: Size, obs: jax.Array, dtype: Any) -> Ring:
    """An empty ring that starts at the observations `obs`, `[E, ...]`."""
    grid = (size.rows, size.num_envs)
    frames = jnp.zeros(grid + obs.shape[1:], obs.dtype).at[0].set(obs)
    side = size.side > 0
    return Ring(
        obs=frames,
        a_tm1=jnp.zeros(grid, jnp.int32),
        r_t=jnp.zeros(grid, dtype),
        terminated=jnp.zeros(grid, bool),
        truncated=jnp.zeros(grid, bool),
        rho=jnp.ones(grid, dtype),
        final_at=jnp.zeros(grid, jnp.int32) if side else None,
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
    ring = ring._replace(
        obs=_write(ring.obs, new.s_tm1, row),
        a_tm1=_write(ring.a_tm1, new.a_tm1, row),
        r_t=_write(ring.r_t, new.r_t, row),
        terminated=_write(ring.terminated, new.terminated, row),
        truncated=_write(ring.truncated, new.truncated, row),
        rho=_write(ring.rho, new.rho, row),
    )
    head = (time + size.num_steps) % size.rows
    ring = ring._replace(obs=_write(ring.obs, obs[None], head))
    return ring if ring.final_obs is None else _add_final(ring, size, row, new)


def _write(rows: jax.Array, new: jax.Array, row: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(rows, new.astype(rows.dtype), row, 0)


def _add_final(ring: Ring, size: Size, row: jax.Array, new: Experience) -> Ring:
    """Keep the final observations of the truncated episodes among the new rows."""
    assert ring.final_obs is not None and ring.final_at is not None
    count = ring.truncations + jnp.cumsum(new.truncated, 0, dtype=jnp.int32)
    at = (count - 1) % size.side
    target = jnp.where(new.truncated, at, size.side)  # Out of range: dropped.
    column = jnp.broadcast_to(jnp.arange(size.num_envs), target.shape)
    return ring._replace(
        final_obs=ring.final_obs.at[target, column].set(new.s_t, mode="drop"),
        final_at=_write(ring.final_at, at, row),
        truncations=count[-1],
    )


def available(size: Size, time: jax.Array) -> jax.Array:
    """How many transitions can be sampled after `time` steps."""
    return jnp.minimum(time, size.rows - size.num_steps) * size.num_envs


def draw_uniform(
    key: jax.Array, size: Size, time: jax.Array, batch_size: int
) -> jax.Array:
    """Slots of uniformly drawn transitions, with replacement, `[batch_size]`.

    A slot is `row * num_envs + column`.
    """
    draw = jax.random.randint(key, (batch_size,), 0, available(size, time))
    age, column = draw // size.num_envs, draw % size.num_envs
    row = (time - 1 - age) % size.rows
    return row * size.num_envs + column


def take(ring: Ring, size: Size, slots: jax.Array) -> Experience:
    """The transitions in these slots, `[B, ...]`."""
    row, column = slots // size.num_envs, slots % size.num_envs
    truncated = ring.truncated[row, column]
    return Experience(
        s_tm1=ring.obs[row, column],
        a_tm1=ring.a_tm1[row, column],
        r_t=ring.r_t[row, column],
        s_t=_next_obs(ring, size, row, column, truncated),
        terminated=ring.terminated[row, column],
        truncated=truncated,
        rho=ring.rho[row, column],
    )


def _next_obs(
    ring: Ring, size: Size, row: jax.Array, column: jax.Array, truncated: jax.Array
) -> jax.Array:
    following = ring.obs[(row + 1) % size.rows, column]
    if ring.final_obs is None or ring.final_at is None:
        return following
    final = ring.final_obs[ring.final_at[row, column], column]
    mask = truncated.reshape(truncated.shape + (1,) * (following.ndim - 1))
    return jnp.where(mask, final, following)
