"""Clipping inside the graph: the identity whose backward pass clips.

`clip_gradient` may stand anywhere in a function. Forward it does nothing; backward it
limits the cotangent that passes through that point, so it clips *signals*, where a
clip of the update limits their sum.
"""

from typing import Any

import jax
import jax.numpy as jnp


def clip_gradient(
    x: Any,
    max_abs: jax.Array | float | None = None,
    max_norm: jax.Array | float | None = None,
) -> Any:
    """The identity; its cotangent is clipped by element, then by norm.

    Args:
        x: Array or pytree of arrays.
        max_abs: Largest absolute value of an element of the cotangent; None: no limit.
            May be traced. 0 stops the gradient, inf passes it, nan makes it nan.
        max_norm: Largest L2 norm of the whole cotangent, all leaves together; None: no
            limit. May be traced, with the same edge values.

    Returns:
        `x`, unchanged.

    Raises:
        ValueError: A threshold is a negative number.

    The first derivative with respect to a threshold is zero, because the value does not
    depend on it; a derivative through a gradient sees it. Forward mode does not work
    over a custom backward pass (`jax.jvp`); forward over reverse does. Under `jax.vmap`
    every example is clipped by itself.

    Example:
        >>> jax.grad(lambda x: 0.5 * clip_gradient(x, max_abs=1.0) ** 2)(3.0).item()
        1.0
    """
    _check("max_abs", max_abs)
    _check("max_norm", max_norm)
    return _clip(x, max_abs, max_norm)


def _check(name: str, value: Any) -> None:
    if isinstance(value, int | float) and value < 0:
        raise ValueError(f"{name}={value}: expected a number >= 0 or None")


@jax.custom_vjp
def _clip(x: Any, max_abs: Any, max_norm: Any) -> Any:
    return x


def _forward(x: Any, max_abs: Any, max_norm: Any) -> tuple[Any, Any]:
    return x, (max_abs, max_norm)


def _backward(thresholds: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    max_abs, max_norm = thresholds
    if max_abs is not None:
        cotangent = jax.tree.map(lambda c: jnp.clip(c, -max_abs, max_abs), cotangent)
    if max_norm is not None:
        cotangent = _scale_down(cotangent, max_norm)
    zeros = jax.tree.map(jnp.zeros_like, thresholds)
    return cotangent, *zeros


def _scale_down(tree: Any, max_norm: Any) -> Any:
    """Scale a tree to a norm of at most `max_norm`; smooth at zero."""
    square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))
    large = square > max_norm**2
    norm = jnp.sqrt(jnp.where(large, square, 1.0))  # No infinite slope at zero.
    factor = jnp.where(large, max_norm / norm, 1.0)
    return jax.tree.map(lambda leaf: leaf * factor, tree)


_clip.defvjp(_forward, _backward)
