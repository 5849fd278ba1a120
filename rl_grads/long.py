"""Sums of very many numbers, each in two words.

One added to 2**24 is 2**24 in float32, and a million times 0.1 makes 100,958. With what
rounding takes away in a second word a sum has 48 bits, and twice as many in float64.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.typing import PyTree


class Long(NamedTuple):
    """An unevaluated sum of two numbers of one type.

    Attributes:
        high: The number, rounded to its type.
        low: What the rounding left out.
    """

    high: jax.Array
    low: jax.Array


def zero(like: PyTree) -> Long:
    """Zeros of the shape and type of an array.

    Args:
        like: An array, or a `jax.ShapeDtypeStruct`.
    """
    zeros = jnp.zeros(like.shape, like.dtype)
    return Long(zeros, zeros)


def plus(number: Long, value: jax.Array) -> Long:
    """A number and a value, with what rounding takes away (Knuth 1969, TwoSum).

    Args:
        number: Its words, of the value's shape and type.
        value: What is added; where the sum is not finite, the second word is zero.

    Example:
        >>> most = Long(jnp.float32(2**24), jnp.float32(0))
        >>> [float(word) for word in plus(most, jnp.float32(1))]
        [16777216.0, 1.0]
    """
    high = number.high + value
    added = high - number.high
    lost = (number.high - (high - added)) + (value - added)
    low = number.low + jnp.where(jnp.isfinite(high), lost, 0)
    total = high + low
    rest = jnp.where(jnp.isfinite(total), low - (total - high), 0)
    return Long(total, rest)


def since(number: Long, value: jax.Array) -> jax.Array:
    """The distance from a number to a value."""
    return (value - number.high) - number.low


def plus_each(numbers: PyTree, values: PyTree) -> PyTree:
    """`plus` for every number of a tree, and what stands in its place in another."""
    return jax.tree.map(plus, numbers, values, is_leaf=_is_long)


def high(numbers: PyTree) -> PyTree:
    """The first words of all numbers of a tree."""
    return jax.tree.map(lambda number: number.high, numbers, is_leaf=_is_long)


def _is_long(node: PyTree) -> bool:
    return isinstance(node, Long)
