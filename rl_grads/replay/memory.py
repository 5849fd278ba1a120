"""The replay memory: a ring, and priorities over its slots where a config wants them.

Importance weights follow Schaul et al. 2016, section 3.4:
`w_i = (N * P(i)) ** -exponent`, divided by the largest or the mean of the batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import register
from rl_grads.replay import blocked_sums, buffer
from rl_grads.replay.blocked_sums import BlockedSums
from rl_grads.replay.buffer import Experience, Ring, Size


class Memory(NamedTuple):
    """State of the replay memory of one member.

    Attributes:
        ring: The transitions.
        tree: Their priorities, to the power of the exponent; None when uniform.
        largest: Running maximum of the priorities to the power of the exponent, 1 at
            first; new transitions get it.
    """

    ring: Ring
    tree: BlockedSums | None
    largest: jax.Array | None


class Sample(NamedTuple):
    """A batch: transitions `[B, ...]`, where they lie, and their weights (or None)."""

    experience: Experience
    slots: jax.Array
    weights: jax.Array | None


def create(size: Size, obs: jax.Array, dtype: Any, config: Any) -> Memory:
    """An empty memory that starts at the observations `obs`, `[E, ...]`."""
    ring = buffer.create(size, obs, dtype)
    if config.replay.priority == "uniform":
        return Memory(ring, None, None)
    tree = blocked_sums.create(size.rows * size.num_envs)
    return Memory(ring, tree, jnp.ones((), jnp.float32))


def add(
    memory: Memory, size: Size, time: jax.Array, new: Experience, obs: jax.Array
) -> Memory:
    """Store new transitions, at the largest priority seen so far."""
    memory = memory._replace(ring=buffer.add(memory.ring, size, time, new, obs))
    if memory.tree is None or memory.largest is None:
        return memory
    block = size.num_steps * size.num_envs
    start = (time % size.rows) * size.num_envs
    retired = (time + size.num_steps) % size.rows * size.num_envs
    tree = blocked_sums.put(
        memory.tree,
        jnp.concatenate([retired + jnp.arange(block), start + jnp.arange(block)]),
        jnp.repeat(jnp.stack([0.0, memory.largest]), block),
    )
    return memory._replace(tree=tree)


def sample(
    memory: Memory, size: Size, time: jax.Array, key: jax.Array, config: Any
) -> Sample:
    """Draw `training.batch_size` transitions after `time` steps, which are >= 1."""
    batch_size = config.training.batch_size
    if memory.tree is None:
        slots = buffer.draw_uniform(key, size, time, batch_size)
        return Sample(buffer.take(memory.ring, size, slots), slots, None)
    slots = blocked_sums.draw(key, memory.tree, batch_size)
    weights = _importance(memory.tree, slots, buffer.available(size, time), config)
    return Sample(buffer.take(memory.ring, size, slots), slots, weights)


def _importance(
    tree: BlockedSums, slots: jax.Array, count: jax.Array, config: Any
) -> jax.Array:
    importance = config.replay.importance
    probability = blocked_sums.get(tree, slots) / blocked_sums.total(tree)
    weights = (count * probability) ** -importance.exponent
    if importance.normalise == "max":
        return weights / jnp.max(weights)
    return weights / jnp.mean(weights) if importance.normalise == "mean" else weights


def prioritise(memory: Memory, slots: jax.Array, signals: Any, config: Any) -> Memory:
    """Give the transitions in `slots` the priorities that their signals deserve.

    One that is negative or not finite counts as the largest seen so far.
    """
    if memory.tree is None or memory.largest is None:
        return memory
    priority = register.get("priority", config.replay.priority)(signals, config)
    powered = priority**config.replay.exponent
    usable = jnp.isfinite(powered) & (powered >= 0)
    powered = jnp.where(usable, powered, memory.largest)
    return memory._replace(
        tree=blocked_sums.put(memory.tree, slots, powered),
        largest=jnp.maximum(memory.largest, jnp.max(powered)),
    )
