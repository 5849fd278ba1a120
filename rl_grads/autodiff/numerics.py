"""Functions whose derivatives, written naively, overflow or are nan.

Each has a `custom_jvp` rule, which serves forward and reverse mode, and a rule made of
functions that have rules again, so that higher derivatives are as good as the first.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_grads.arrays import Floats
from rl_grads.autodiff import arguments
from rl_grads.typing import PyTree


def log1pexp(x: Floats) -> Float[Array, "*shape"]:
    """`log(1 + exp(x))`, the softplus, accurate in value and derivatives everywhere.

    `jnp.log(1 + jnp.exp(x))` overflows from x = 89 on in float32, and its derivative is
    nan there. Here the derivative is sigmoid(x), the second sigmoid(x) sigmoid(-x),
    which keeps its digits where `s * (1 - s)` has lost them.

    Args:
        x: Floating array.

    Returns:
        An array like x. At -inf, inf: value 0, inf; derivative 0, 1.

    Raises:
        TypeError: x is not floating.

    Example:
        >>> log1pexp(100.0).item(), jax.grad(log1pexp)(100.0).item()
        (100.0, 1.0)
    """
    arguments.floating_array("x", x)
    return _log1pexp(jnp.asarray(x))


@jax.custom_jvp
def _log1pexp(x: jax.Array) -> jax.Array:
    return jax.nn.softplus(x)


@_log1pexp.defjvp
def _log1pexp_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return _log1pexp(x), _sigmoid(x) * tangent


@jax.custom_jvp
def _sigmoid(x: jax.Array) -> jax.Array:
    """The sigmoid to full relative accuracy on both sides."""
    small = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, 1, small) / (1 + small)


@_sigmoid.defjvp
def _sigmoid_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    value = _sigmoid(x)
    return value, value * _sigmoid(-x) * tangent


def safe_norm(
    x: Floats, axis: int | tuple[int, ...] | None = None
) -> Float[Array, "..."]:
    """The L2 norm, with derivative 0 at 0 and no overflow on the way.

    `jnp.linalg.norm` has the derivative nan at 0, and squares what it gets: 1e20 is
    infinite in float32. Here the largest element is divided out first.

    Args:
        x: Floating array.
        axis: Axis or axes to reduce; all if None.

    Returns:
        The norm, without the reduced axes. At 0 all its derivatives are 0, the
        smallest subgradient; at inf the derivative is nan.

    Raises:
        TypeError: x is not floating.

    Example:
        >>> safe_norm(jnp.array([3.0, 4.0])).item()
        5.0
        >>> jax.grad(safe_norm)(jnp.zeros(2)).tolist()
        [0.0, 0.0]
    """
    arguments.floating_array("x", x)
    return jnp.squeeze(_norm(jnp.asarray(x), axis), axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _norm(x: jax.Array, axis: PyTree) -> jax.Array:
    """The norm, with the reduced axes kept."""
    largest = jnp.max(jnp.abs(x), axis, keepdims=True, initial=0)
    usable = (largest > 0) & (largest < jnp.inf)
    scale = jnp.where(usable, largest, 1)
    squares = jnp.sum(jnp.square(x / scale), axis, keepdims=True)
    return scale * jnp.sqrt(squares)


@_norm.defjvp
def _norm_jvp(
    axis: PyTree, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    norm = _norm(x, axis)
    zero = norm == 0
    # The inner choice keeps the division's own derivative finite at zero.
    unit = jnp.where(zero, 0, x / jnp.where(zero, 1, norm))
    return norm, jnp.sum(unit * tangent, axis, keepdims=True)


def root_ratio(x: Floats) -> Float[Array, "*shape"]:
    """`x / (1 + sqrt(x))` for x >= 0: how a rule repairs a derivative at the edge.

    The derivative at 0 is 1, but the chain rule meets `0 * inf` there, from the slope
    of the root, and says nan. With `r = 1 / (1 + sqrt(x))` the derivative is
    `(r + r**2) / 2`: no infinity is left, and differentiating *that* form once more
    gives the true -inf at 0 and not `inf - inf`.

    Args:
        x: Floating array; nan below 0.

    Returns:
        An array like x.

    Raises:
        TypeError: x is not floating.

    Example:
        >>> jax.grad(lambda x: x / (1 + jnp.sqrt(x)))(0.0).item()
        nan
        >>> jax.grad(root_ratio)(0.0).item()
        1.0
    """
    arguments.floating_array("x", x)
    return _root_ratio(jnp.asarray(x))


@jax.custom_jvp
def _root_ratio(x: jax.Array) -> jax.Array:
    return x / (1 + jnp.sqrt(x))


@_root_ratio.defjvp
def _root_ratio_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    r = 1 / (1 + jnp.sqrt(x))
    return _root_ratio(x), (r + r * r) / 2 * tangent
