"""Products with Jacobians and Hessians that never build the matrix."""

from collections.abc import Callable

import jax
import optax

from rl_grads.autodiff import arguments
from rl_grads.autodiff.derivatives import forward_mode
from rl_grads.typing import Function, PyTree


def hvp(
    fun: Function, primals: PyTree, tangents: PyTree, order: str = "fwd_rev"
) -> PyTree:
    """The Hessian of a scalar function times a vector, for about two gradients.

    Args:
        fun: `fun(x)` or, for a tuple of primals, `fun(*primals)`; its output is a
            scalar.
        primals: Where: a pytree of floating arrays. A plain tuple stands for the
            positional arguments, as in `jax.jvp`, so `x` and `(x,)` mean the same; wrap
            parameters that are a tuple themselves.
        tangents: The vector, like `primals`.
        order: `fwd_rev` differentiates the gradient along the tangents: the cheapest.
            `rev_fwd` takes the gradient of the derivative along the tangents, `rev_rev`
            that of the product of gradient and tangents. Over a `custom_vjp` rule
            `fwd_rev` and `rev_rev` work.

    Returns:
        A tree like the first argument: how its gradient changes along the tangents.

    Raises:
        ValueError: The order is unknown, the output is no scalar, or the tangents are
            not like the primals.
        TypeError: A dtype is not floating, or forward mode meets a `custom_vjp` rule.

    Pearlmutter (1994), "Fast exact multiplication by the Hessian".

    Example:
        >>> import jax.numpy as jnp
        >>> x, v = jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0])
        >>> hvp(lambda x: x[0] ** 2 * x[1], x, v).tolist()
        [6.0, 2.0]
    """
    arguments.one_of("order", order, _ORDERS)
    arguments.floating("primals", primals)
    arguments.like("tangents", tangents, primals)
    if type(primals) is not tuple:  # A NamedTuple is one argument.
        primals, tangents = (primals,), (tangents,)
    with forward_mode(f"order={order!r}", "use order='fwd_rev'"):
        return _ORDERS[order](arguments.scalar_output(fun), primals, tangents)


def _forward_over_reverse(fun: Callable, primals: tuple, tangents: tuple) -> PyTree:
    return jax.jvp(jax.grad(fun), primals, tangents)[1]


def _reverse_over_forward(fun: Callable, primals: tuple, tangents: tuple) -> PyTree:
    return jax.grad(lambda *at: jax.jvp(fun, at, tangents)[1])(*primals)


def _reverse_over_reverse(fun: Callable, primals: tuple, tangents: tuple) -> PyTree:
    gradient = jax.grad(fun, argnums=tuple(range(len(primals))))
    return jax.grad(lambda *at: optax.tree.vdot(gradient(*at), tangents))(*primals)


_ORDERS = {
    "fwd_rev": _forward_over_reverse,
    "rev_fwd": _reverse_over_forward,
    "rev_rev": _reverse_over_reverse,
}


def jvps(fun: Callable[[PyTree], PyTree], primal: PyTree, tangents: PyTree) -> PyTree:
    """K products Jacobian times vector in one batched program.

    The function itself is evaluated once; its derivative acts on a matrix where a loop
    would act K times on a vector.

    Args:
        fun: `fun(primal)`, from pytrees to pytrees.
        primal: Where.
        tangents: `[K, ...]` in every leaf: K trees like `primal`, stacked.

    Returns:
        The products, `[K, ...]` in every leaf of the output's tree.

    Raises:
        ValueError: The tangents are no stack of trees like `primal`.
        TypeError: A dtype is not floating, or `fun` has a `custom_vjp` rule.

    Example:
        >>> import jax.numpy as jnp
        >>> jvps(jnp.square, jnp.array([1.0, 3.0]), jnp.eye(2)).tolist()
        [[2.0, 0.0], [0.0, 6.0]]
    """
    arguments.floating("primal", primal)
    arguments.stacked("tangents", tangents, primal)
    checked = arguments.floating_output(fun)

    def product(tangent: PyTree) -> PyTree:
        return jax.jvp(checked, (primal,), (tangent,))[1]

    with forward_mode("jvps", "use vjps"):
        return jax.vmap(product)(tangents)


def vjps(fun: Callable[[PyTree], PyTree], primal: PyTree, cotangents: PyTree) -> PyTree:
    """K products vector times Jacobian in one batched program.

    Args:
        fun: `fun(primal)`, from pytrees to pytrees.
        primal: Where.
        cotangents: `[K, ...]` in every leaf: K trees like `fun(primal)`, stacked.

    Returns:
        The products, `[K, ...]` in every leaf of a tree like `primal`.

    Raises:
        ValueError: The cotangents are no stack of trees like the output.
        TypeError: A dtype is not floating.

    Example:
        >>> import jax.numpy as jnp
        >>> vjps(jnp.sum, jnp.ones(2), jnp.array([1.0, 5.0])).tolist()
        [[1.0, 1.0], [5.0, 5.0]]
    """
    arguments.floating("primal", primal)
    out, pullback = jax.vjp(arguments.floating_output(fun), primal)
    arguments.stacked("cotangents", cotangents, out)
    return jax.vmap(pullback)(cotangents)[0]
