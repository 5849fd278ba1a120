"""Running moments of a stream of arrays, right however long it is.

Counts and sums of float32 stand still: one added to 2**24 is 2**24, and of a mean over
n numbers the next one moves only the share 1/n. So mean and variance are kept as
themselves, not as sums, and they and the count in two float32 each, 48 bits together.
After 1e10 numbers they are right to 1e-6 of the standard deviation and of the variance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.long import Long, plus, since, zero


class Statistics(NamedTuple):
    """Running moments of the observations of one instance.

    Attributes:
        count: Observations seen, a scalar; exact up to 2**48.
        mean: Their mean, in the observation's shape.
        variance: Mean of their squared distances from the mean, likewise.
    """

    count: Long
    mean: Long
    variance: Long


class Moments(NamedTuple):
    """Mean and variance, float32."""

    mean: jax.Array
    variance: jax.Array


def none_yet(shape: tuple[int, ...]) -> Statistics:
    """Moments before the first observation.

    Args:
        shape: Of an observation.
    """
    whole = zero(jax.ShapeDtypeStruct(shape, jnp.float32))
    return Statistics(zero(jnp.float32(0)), whole, whole)


def observe(statistics: Statistics, obs: jax.Array) -> Statistics:
    """Add one observation to running moments (Welford, 1962).

    Args:
        statistics: Moments of the observations before.
        obs: An observation in the shape of the mean.

    Returns:
        The moments with this observation.

    Example:
        >>> seen = observe(observe(none_yet(()), jnp.array(1.0)), jnp.array(5.0))
        >>> float(seen.mean.high), float(seen.variance.high)
        (3.0, 4.0)
    """
    obs = obs.astype(jnp.float32)
    count = plus(statistics.count, jnp.float32(1))
    share = 1 / count.high
    before = since(statistics.mean, obs)
    mean = plus(statistics.mean, before * share)
    square = before * since(mean, obs)
    variance = statistics.variance
    variance = plus(variance, since(variance, square) * share)
    return Statistics(count, mean, variance)


def merge(statistics: Statistics) -> Moments:
    """The moments of all instances together (Chan, Golub and LeVeque, 1979).

    Args:
        statistics: Moments stacked on a leading axis `[N, ...]`.

    Example:
        >>> seen = observe(none_yet(()), jnp.array(1.0))
        >>> seen, other = (observe(seen, jnp.array(x)) for x in (1.0, 4.0))
        >>> both = merge(jax.tree.map(lambda *x: jnp.stack(x), seen, other))
        >>> float(both.mean), float(both.variance)
        (1.75, 1.6875)
    """
    count, mean, variance = (number.high for number in statistics)
    count = count.reshape(-1, *[1] * (mean.ndim - 1))
    part = count / jnp.sum(count)
    center = jnp.sum(part * mean, 0)
    return Moments(center, jnp.sum(part * (variance + jnp.square(mean - center)), 0))
