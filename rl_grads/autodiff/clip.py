"""Clipping inside the graph: the identity whose backward pass clips.

`clip_gradient` may stand anywhere in a function. Forward it does nothing; backward it
limits the cotangent that passes through that point, so it clips *signals*, where a
clip of the update limits their sum.
"""

import jax
import jax.numpy as jnp

from rl_grads.arrays import Number
from rl_grads.autodiff import arguments
from rl_grads.typing import PyTree


def clip_gradient(
    x: PyTree,
    max_abs: Number | None = None,
    max_norm: Number | None = None,
) -> PyTree:
    """The identity; its cotangent is clipped by element, then by norm.

    A threshold may be traced: swept, vmapped or learned. What arrives at x, where c is
    the cotangent that comes back:

    | threshold       | max_abs                 | max_norm                     |
    |-----------------|-------------------------|------------------------------|
    | None            | c                       | c                            |
    | t > 0           | c, cut to [-t, t]       | c, scaled to a norm <= t     |
    | 0               | 0                       | 0                            |
    | inf             | c                       | c                            |
    | nan             | nan                     | nan                          |
    | negative        | refused; traced: nan    | refused; traced: nan         |

    | c               | max_abs = t             | max_norm = t                 |
    |-----------------|-------------------------|------------------------------|
    | 0               | 0, derivative 1         | 0, derivative 1              |
    | norm exactly t  | c                       | c                            |
    | norm > 1e19     | c, cut to [-t, t]       | 0 (its square overflows)     |
    | an inf in it    | t there                 | nan there, 0 elsewhere       |
    | a nan in it     | nan there               | nan                          |

    Args:
        x: Array or pytree of arrays, of floating dtypes.
        max_abs: Largest absolute value of an element of the cotangent.
        max_norm: Largest L2 norm of the whole cotangent, all leaves together. Under
            `jax.vmap` every example is clipped by itself.

    Returns:
        `x`, unchanged.

    Raises:
        ValueError: A threshold is negative or no scalar.
        TypeError: x is not floating, or a threshold is no real number. Also raised by
            JAX when forward mode (`jax.jvp`, `jax.jacfwd`) passes over the backward
            rule; forward over reverse (`jax.hessian`) does work.

    The derivative of a value with respect to a threshold is zero, because the value
    does not depend on it; a derivative through a gradient sees it. The gradient of half
    the square is that of the Huber loss:

    Example:
        >>> jax.grad(lambda x: 0.5 * clip_gradient(x, max_abs=1.0) ** 2)(3.0).item()
        1.0
    """
    arguments.floating("x", x)
    if max_abs is None and max_norm is None:
        return x
    return _clip(x, _threshold("max_abs", max_abs), _threshold("max_norm", max_norm))


def _threshold(name: str, value: PyTree) -> jax.Array | None:
    """A threshold as a floating scalar."""
    if value is None:
        return None
    arguments.number(name, value)
    if arguments.is_known(value) and value < 0:
        raise ValueError(f"{name}={value}: expected a number >= 0 or None")
    return jnp.asarray(value, jnp.promote_types(jnp.result_type(value), jnp.float32))


@jax.custom_vjp
def _clip(x: PyTree, max_abs: PyTree, max_norm: PyTree) -> PyTree:
    return x


def _forward(x: PyTree, max_abs: PyTree, max_norm: PyTree) -> tuple[PyTree, PyTree]:
    return x, (max_abs, max_norm)


def _backward(thresholds: PyTree, cotangent: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    max_abs, max_norm = thresholds
    if max_abs is not None:
        cotangent = _cut(cotangent, _nan_if_negative(max_abs))
    if max_norm is not None:
        cotangent = _scale_down(cotangent, _nan_if_negative(max_norm))
    zeros = jax.tree.map(jnp.zeros_like, thresholds)
    return cotangent, *zeros


_clip.defvjp(_forward, _backward)


def _nan_if_negative(threshold: jax.Array) -> jax.Array:
    return jnp.where(threshold >= 0, threshold, jnp.nan)


def _cut(tree: PyTree, max_abs: jax.Array) -> PyTree:
    """Cut every element to `[-max_abs, max_abs]`."""

    def cut(leaf: jax.Array) -> jax.Array:
        limit = max_abs.astype(leaf.dtype)
        # At a tie the derivative is that of the inside, as in `_scale_down`.
        return jnp.where(jnp.abs(leaf) <= limit, leaf, jnp.sign(leaf) * limit)

    return jax.tree.map(cut, tree)


def _scale_down(tree: PyTree, max_norm: jax.Array) -> PyTree:
    """Scale a tree to a norm of at most `max_norm`; smooth at zero."""
    square = sum(_square(leaf) for leaf in jax.tree.leaves(tree))
    small = square <= max_norm**2  # False for nan, which the factor then hands on.
    # The inner choice keeps the root's derivative finite at zero.
    factor = jnp.where(small, 1, max_norm / jnp.sqrt(jnp.where(small, 1, square)))
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def _square(leaf: jax.Array) -> jax.Array:
    """The squared norm, in float32 at least: squares overflow float16."""
    # `safe_norm` would be exact beyond 1e19 too, but costs three passes for one.
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    return jnp.sum(jnp.square(wide))
