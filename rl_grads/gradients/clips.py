"""Clips inside the graph, where a config asks for them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rl_grads.autodiff.clip import clip_gradient


class _Clipped(NamedTuple):
    """A network whose output's gradient is clipped."""

    init: Callable[..., Any]
    apply: Callable[..., jax.Array]


def clipped_output(network: Any, clip: Any) -> Any:
    """The network with the gradient of its output clipped, as `gradient.clip` says.

    Args:
        network: `init(key, obs)` and `apply(params, obs)` for one observation.
        clip: Has `max_abs` and `max_norm`, each a number or None.

    Example:
        >>> clipped_output(network, config.gradient.clip)  # doctest: +SKIP
    """
    if clip.max_abs is None and clip.max_norm is None:
        return network

    def apply(params: Any, obs: jax.Array) -> jax.Array:
        return clip_gradient(network.apply(params, obs), clip.max_abs, clip.max_norm)

    return _Clipped(network.init, apply)
