"""Metrics that are not there at times: nan outside of the program, never inside.

`JAX_DEBUG_NANS=1`, by which people look for faults, stops a program that gives back a
nan. A mean over no episodes is no fault.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads.typing import PyTree


class Maybe(NamedTuple):
    """A metric inside the program.

    Attributes:
        value: Its value; anything but nan where there is none.
        there: Whether there is one.
    """

    value: jax.Array
    there: jax.Array


def quotient(total: jax.Array, count: jax.Array) -> Maybe:
    """A mean over `count` things, which may be none.

    Example:
        >>> on_host(quotient(jnp.array([6.0, 0.0]), jnp.array([4, 0]))).tolist()
        [1.5, nan]
    """
    return Maybe(total / jnp.maximum(count, 1), count > 0)


def unless_nan(value: jax.Array) -> Maybe:
    """A metric whose nan says that there is nothing to measure.

    Example:
        >>> on_host(unless_nan(jnp.array([2.0, jnp.nan]))).tolist()
        [2.0, nan]
    """
    undefined = jnp.isnan(value)
    return Maybe(jnp.where(undefined, 0, value), ~undefined)


def on_host(metric: PyTree) -> np.ndarray:
    """The metric as an array of NumPy, nan where it is not there.

    Args:
        metric: A `Maybe`, or an array.
    """
    if not isinstance(metric, Maybe):
        return np.asarray(metric)
    value, there = np.asarray(metric.value), np.asarray(metric.there)
    if there.all():
        return value  # It may be an integer, for which there is no nan.
    return np.where(there, value, value.dtype.type(np.nan))
