"""Clips of the update as optax transformations: those that optax does not have.

Its clips by norm are there as well, because the derivative of optax's own at a zero
gradient is nan, and a meta-gradient goes through the clip.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads.arrays import Number, Scalar
from rl_grads.autodiff.clip import clip_gradient
from rl_grads.gradients import quantiles
from rl_grads.typing import Params, PyTree, State


def clip_by_layer(max_norm: Number) -> optax.GradientTransformation:
    """Scale each layer's part of the update down to a norm of at most `max_norm`.

    A layer is what stands side by side in the tree of parameters: the kernel and the
    bias of a module are one. (`optax.clip_by_block_rms` takes each array by itself, and
    the root mean square instead of the norm.)

    Args:
        max_norm: Largest L2 norm of a layer; may be traced.

    Example:
        >>> layers = {"one": {"w": 3.0, "b": 4.0}, "two": {"w": 0.5}}
        >>> clipped, _ = clip_by_layer(1.0).update(layers, optax.EmptyState())
        >>> {k: round(float(v), 3) for k, v in clipped["one"].items()}
        {'b': 0.8, 'w': 0.6}
        >>> float(clipped["two"]["w"])
        0.5
    """

    def update(
        updates: Params, state: State, params: Params = None
    ) -> tuple[Params, State]:
        paths, structure = jax.tree_util.tree_flatten_with_path(updates)
        layers: dict[Hashable, dict[int, Any]] = {}
        for i, (path, leaf) in enumerate(paths):
            layers.setdefault(path[:-1], {})[i] = leaf
        clipped: dict[int, Any] = {}
        for layer in layers.values():
            clipped |= _limited(layer, max_norm)
        return structure.unflatten(clipped[i] for i in range(len(paths))), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_norm(max_norm: Number) -> optax.GradientTransformation:
    """Scale the whole update down to `max_norm` (`optax.clip_by_global_norm`).

    Args:
        max_norm: Largest L2 norm; may be traced.

    Example:
        >>> clipped, _ = clip_by_norm(2.0).update({"w": jnp.array([0.0, 4.0])}, ())
        >>> clipped["w"].tolist()
        [0.0, 2.0]
    """
    return optax.stateless(lambda updates, params: _limited(updates, max_norm))


def clip_by_rms(max_rms: Number) -> optax.GradientTransformation:
    """Scale every array down to `max_rms` (`optax.clip_by_block_rms`).

    Args:
        max_rms: Largest root mean square of an array; may be traced.

    Example:
        >>> clipped, _ = clip_by_rms(2.0).update({"w": jnp.array([4.0, 4.0])}, ())
        >>> clipped["w"].tolist()
        [2.0, 2.0]
    """

    def limited(x: jax.Array) -> jax.Array:
        return _limited(x, max_rms * jnp.sqrt(jnp.size(x)))

    return optax.stateless(lambda updates, params: jax.tree.map(limited, updates))


def leaving_zero_units(
    clip: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """A clip by the norms of units that does nothing to a unit without gradient.

    That changes no value, but its derivative there, which would be nan. Units are
    those of `optax.unitwise_norm`.

    Args:
        clip: A transformation that gives zero for zero.

    Example:
        >>> clip = leaving_zero_units(optax.adaptive_grad_clip(0.1))
        >>> slope = jax.grad(lambda x: clip.update(x, clip.init(x), x + 1.0)[0])
        >>> slope(jnp.array(0.0)).item()
        1.0
    """

    def update(
        updates: Params, state: State, params: Params = None
    ) -> tuple[Params, State]:
        zero = jax.tree.map(_in_zero_unit, updates)
        clipped, state = clip.update(_fixed(updates), state, _fixed(params))
        return jax.tree.map(jnp.where, zero, updates, clipped), state

    return optax.GradientTransformation(clip.init, update)


def _fixed(tree: PyTree) -> Params:
    """The same tree, units of zeros being constants."""
    return jax.tree.map(lambda x: jnp.where(_in_zero_unit(x), 0.0, x), tree)


def _in_zero_unit(x: PyTree) -> jax.Array:
    return optax.transforms.unitwise_norm(jax.lax.stop_gradient(x)) == 0


class AutoClipState(NamedTuple):
    """The norms so far, see `quantiles`."""

    norms: jax.Array


def auto_clip(percentile: Number) -> optax.GradientTransformation:
    """AutoClip: clip to a percentile of all norms so far, the present one included.

    Seetharaman, Wichern, Pardo & Le Roux 2020, "AutoClip: Adaptive gradient clipping
    for source separation networks". They keep every norm; here the percentile is read
    off a grid of fixed size, to within 4.4 % of the exact one (see `quantiles`).

    Args:
        percentile: Between 0 and 100, which clips nothing. May be traced, and an outer
            derivative sees it.

    Example:
        >>> clip = auto_clip(50.0)
        >>> state = clip.init(0.0)
        >>> for norm in (1.0, 2.0, 100.0):
        ...     clipped, state = clip.update(norm, state)
        >>> 1.9 < clipped < 2.1
        Array(True, dtype=bool)
    """

    def update(
        updates: Params, state: State, params: Params = None
    ) -> tuple[Params, State]:
        state = AutoClipState(quantiles.add(state.norms, optax.tree.norm(updates)))
        return _limited(updates, auto_limit(state, percentile)), state

    return optax.GradientTransformation(
        lambda params: AutoClipState(quantiles.init()), update
    )


def auto_limit(state: AutoClipState, percentile: Number) -> Scalar:
    """The norm to which AutoClip has clipped when it left this state."""
    return quantiles.quantile(state.norms, percentile / 100)


def _limited(tree: PyTree, max_norm: Number) -> Params:
    """A tree scaled down to a norm: what `clip_gradient` does on the way back."""
    tree = jax.tree.map(jnp.asarray, tree)
    return jax.vjp(lambda x: clip_gradient(x, max_norm=max_norm), tree)[1](tree)[0]
