"""From a domain to the whole real line and back: how a number of a config is learned.

A gradient step may lead anywhere; the bijector of the declared domain keeps the number
inside. Half-lines go by the logarithm of the distance to their edge, so that a step is
relative; bounded intervals by the logit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.config import Interval
from rl_grads.typing import PyTree

_MARGIN = 1e-6  # Of the width: float32 still tells it from the edge.


class Bijector(NamedTuple):
    """A map between a domain and the real line.

    Attributes:
        to_real: From a value inside the domain, edges excluded, to any number.
        to_domain: Its inverse.
    """

    to_real: Callable[[Any], jax.Array]
    to_domain: Callable[[Any], jax.Array]


def bijector(domain: PyTree) -> Bijector:
    """The bijector of a domain; the identity where it has no edges.

    Example:
        >>> unit = bijector(Interval(0.0, 1.0))
        >>> float(unit.to_real(0.5)), round(float(unit.to_domain(2.0)), 4)
        (0.0, 0.8808)
        >>> round(float(bijector(Interval(low=0.0)).to_domain(-1.0)), 4)
        0.3679
    """
    low, high = edges(domain)
    if math.isinf(low) and math.isinf(high):
        return Bijector(jnp.asarray, jnp.asarray)
    if math.isinf(high):
        return Bijector(lambda x: jnp.log(x - low), lambda y: low + jnp.exp(y))
    if math.isinf(low):
        return Bijector(lambda x: -jnp.log(high - x), lambda y: high - jnp.exp(-y))
    width = high - low
    return Bijector(
        lambda x: jax.scipy.special.logit((x - low) / width),
        lambda y: low + width * jax.nn.sigmoid(y),
    )


def edges(domain: PyTree) -> tuple[float, float]:
    """Lower and upper edge of a domain, infinite where it has none."""
    if isinstance(domain, Interval):
        return float(domain.low), float(domain.high)
    return -math.inf, math.inf


def interior(domain: PyTree, value: float) -> float:
    """The nearest value that can be learned: inside the domain, off its edges.

    Example:
        >>> interior(Interval(0.0, 1.0, high_closed=True), 1.0)
        0.999999
        >>> interior(Interval(low=0.0), 0.5)
        0.5
    """
    low, high = edges(domain)
    margin = _MARGIN * (high - low) if math.isfinite(high - low) else _MARGIN
    return min(max(value, low + margin), high - margin) if margin else value
