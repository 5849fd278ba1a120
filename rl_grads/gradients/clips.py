"""Clips inside the graph, where a config asks for them.

The output of any network can be clipped. For places inside it a network announces them:
it has `sites`, the names of places, and its `apply` takes a keyword argument `at_site`,
a function `(name, value) -> value` that it calls at each. The name is `torso` for what
the last layer reads, anything else for another layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rl_grads.config import ConfigError
from rl_grads.gradients.receipts import clip_here, clip_of
from rl_grads.typing import Network, Params, PyTree


class _Clipped(NamedTuple):
    """A network with a clip of the gradient inside."""

    init: Callable[..., Any]
    apply: Callable[..., jax.Array]


def clipped_network(network: Network, clip: PyTree) -> Params:
    """The network with its gradient clipped where and as `gradient.clip` says.

    Args:
        network: `init(key, obs)` and `apply(params, obs)` for one observation; see the
            module for places inside it.
        clip: Has `max_abs` and `max_norm`, each a number or None, and `site`: `output`,
            `torso` or `every_layer`, which includes the output.

    Raises:
        ConfigError: The network does not announce that place.

    Example:
        >>> clipped_network(network, config.gradient.clip)  # doctest: +SKIP
    """
    if clip.max_abs is None and clip.max_norm is None:
        return network
    check_site(network, clip)

    def apply(params: Params, obs: jax.Array) -> jax.Array:
        here = clip_of(clip, params)

        def at_site(name: str, x: jax.Array) -> jax.Array:
            return clip_here(x, here) if clip.site in (name, "every_layer") else x

        inside = {} if clip.site == "output" else {"at_site": at_site}
        out = network.apply(params, obs, **inside)
        return out if clip.site == "torso" else clip_here(out, here)

    return _Clipped(network.init, apply)


def check_site(network: Network, clip: PyTree) -> None:
    """Refuse a place that the network does not announce.

    Raises:
        ConfigError: Names the place and what the network has.
    """
    known = getattr(network, "sites", ())
    if clip.site == "output" or clip.site in known:
        return
    if clip.site == "torso" or not known:
        places = "'output' or 'every_layer'" if known else "'output'"
        raise ConfigError(
            f"gradient.clip.site={clip.site!r}: expected {places}; the network "
            "announces no such place (`sites` and `at_site`)"
        )
