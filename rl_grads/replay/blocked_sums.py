"""Sampling in proportion to priorities: sums in blocks, recomputed from their parts.

N priorities lie in about sqrt(N) blocks of about sqrt(N). An update writes the
priorities and sums the touched blocks anew, so rounding errors never pile up as they
do in a tree of running differences. A draw searches the block sums, then one block.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class BlockedSums(NamedTuple):
    """Priorities `[blocks, width]` and the sum of each block `[blocks]`."""

    priorities: jax.Array
    sums: jax.Array


def create(capacity: int) -> BlockedSums:
    """All-zero priorities for `capacity` slots (float32)."""
    width = math.ceil(math.sqrt(capacity))
    blocks = math.ceil(capacity / width)
    return BlockedSums(
        jnp.zeros((blocks, width), jnp.float32), jnp.zeros(blocks, jnp.float32)
    )


def total(tree: BlockedSums) -> jax.Array:
    """The sum of all priorities."""
    return jnp.sum(tree.sums)


def put(tree: BlockedSums, slots: jax.Array, priorities: jax.Array) -> BlockedSums:
    """Set the priorities of `slots`, both `[B]`; with repeats one of them stays."""
    block, place = jnp.divmod(slots, tree.priorities.shape[1])
    written = tree.priorities.at[block, place].set(priorities.astype(jnp.float32))
    return BlockedSums(written, tree.sums.at[block].set(written[block].sum(-1)))


def get(tree: BlockedSums, slots: jax.Array) -> jax.Array:
    """The priorities of `slots`."""
    return tree.priorities[jnp.divmod(slots, tree.priorities.shape[1])]


def draw(key: jax.Array, tree: BlockedSums, batch_size: int) -> jax.Array:
    """Slots drawn in proportion to their priorities, stratified, `[batch_size]`.

    A slot of priority zero is never drawn while another is positive.
    """
    blocks = jnp.cumsum(tree.sums)
    strata = jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))
    point = strata / batch_size * blocks[-1]
    block = _search(blocks, point)
    before = jnp.where(block > 0, blocks[block - 1], 0.0)
    inside = jnp.cumsum(tree.priorities[block], axis=-1)
    place = jax.vmap(_search)(inside, point - before)
    return block * tree.priorities.shape[1] + place


def _search(cumulative: jax.Array, point: jax.Array) -> jax.Array:
    """First index whose cumulative sum exceeds `point`; the last rise at most."""
    last = jnp.searchsorted(cumulative, cumulative[-1], side="left")
    return jnp.minimum(jnp.searchsorted(cumulative, point, side="right"), last)
