"""Sampling in proportion to priorities: sums in blocks, recomputed from their parts.

N priorities lie in about sqrt(N) blocks of about sqrt(N). An update writes the
priorities and sums the touched blocks anew, so rounding errors never pile up as they
do in a tree of running differences. A draw picks a block, then a slot inside it.

Example:
    >>> tree = put(create(9), jnp.array([2, 5]), jnp.array([1.0, 3.0]))
    >>> float(total(tree)), get(tree, jnp.array([5, 6])).tolist()
    (4.0, [3.0, 0.0])
    >>> sorted(draw(jax.random.key(0), tree, 4).tolist())
    [2, 5, 5, 5]
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
    """Set the priorities of `slots`, both `[B]`; of repeated slots one value stays."""
    block, place = jnp.divmod(slots, tree.priorities.shape[1])
    written = tree.priorities.at[block, place].set(priorities.astype(jnp.float32))
    return BlockedSums(written, tree.sums.at[block].set(written[block].sum(-1)))


def get(tree: BlockedSums, slots: jax.Array) -> jax.Array:
    """The priorities of `slots`, `[B]`."""
    return tree.priorities[jnp.divmod(slots, tree.priorities.shape[1])]


def draw(key: jax.Array, tree: BlockedSums, batch_size: int) -> jax.Array:
    """Slots drawn in proportion to their priorities, `[batch_size]`.

    Blocks are drawn stratified (Schaul et al. 2016, appendix B.2.1). The slot inside a
    block has a random number of its own: one alone has too few digits for both.
    A slot of priority zero is never drawn while another is positive.
    """
    uniform = jax.random.uniform(key, (2, batch_size))
    level = (jnp.arange(batch_size) + uniform[0]) / batch_size
    block = _find(tree.sums, level)
    place = _find(tree.priorities[block], uniform[1])
    return block * tree.priorities.shape[1] + place


def _find(weights: jax.Array, level: jax.Array) -> jax.Array:
    """First index where the part of the weights so far exceeds `level`, `[B]`.

    A parallel cumulative sum may rise by rounding where the weight is zero, hence the
    test of the weight itself.
    """
    cumulative = jnp.cumsum(weights, axis=-1)
    beyond = cumulative > (level * cumulative[..., -1])[:, None]
    return jnp.argmax((weights > 0) * (1 + beyond), axis=-1)
