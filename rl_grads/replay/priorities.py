"""Priorities by name: `(signals, config) -> [B]`, non-negative.

`uniform` is not computed at all: the memory then holds no priorities.
"""

from typing import Any

import jax
import jax.numpy as jnp


def td_error(signals: Any, config: Any) -> jax.Array:
    """|TD error| + 1e-6 (Schaul et al. 2016, proportional variant)."""
    return jnp.abs(signals.td_error) + 1e-6


def uniform(signals: Any, config: Any) -> jax.Array:
    """The same priority for all."""
    return jnp.ones_like(signals.td_error)
