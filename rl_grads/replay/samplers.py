"""Samplers by name: how a batch is drawn from the memory, in the place of priorities.

    sampler(key, stored, count, config) -> slots [count]

Draws are independent of each other. One that prefers what is new:

    >>> from rl_grads import register
    >>> def recent(key, stored, count, config):
    ...     u, v = jax.random.uniform(key, (2, count))
    ...     age = (stored.steps * u**2).astype(jnp.int32)
    ...     return stored.slots(age, (stored.num_envs * v).astype(jnp.int32))
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.replay.buffer import Size, available


class Stored(NamedTuple):
    """What can be drawn.

    Attributes:
        size: Static sizes of the ring.
        time: Steps per environment so far.
    """

    size: Size
    time: jax.Array

    @property
    def num_envs(self) -> int:
        """Environments; each has a transition of every age."""
        return self.size.num_envs

    @property
    def steps(self) -> jax.Array:
        """Ages go from 0, the newest, to this, which is not included."""
        return available(self.size, self.time) // self.size.num_envs

    def slots(self, age: jax.Array, env: jax.Array) -> jax.Array:
        """Where transitions lie, by how many steps ago they were, and in which
        environment; ages that are not stored count as the nearest that is.

        Example:
            >>> stored = Stored(Size(rows=6, num_envs=2, num_steps=1, side=0), 4)
            >>> stored.slots(jnp.array([0, 3, 9]), jnp.array([0, 1, 0])).tolist()
            [6, 1, 0]
        """
        age = jnp.clip(age, 0, self.steps - 1)
        return (self.time - 1 - age) % self.size.rows * self.num_envs + env
