"""Derivatives as functions: higher ones, Jacobians, Hessians.

Every function here takes the derivative in the first argument and hands the others
through.
"""

import contextlib
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from rl_grads.autodiff import arguments
from rl_grads.typing import Function, PyTree

_JACOBIANS = {"forward": jax.jacfwd, "reverse": jax.jacrev}
_HESSIANS: dict[str, Callable[..., Any]] = {
    "fwd_rev": lambda fun: jax.jacfwd(jax.jacrev(fun)),
    "rev_fwd": lambda fun: jax.jacrev(jax.jacfwd(fun)),
    "rev_rev": lambda fun: jax.jacrev(jax.jacrev(fun)),
}


def nth_derivative(fun: Function, n: int) -> Function:
    """The n-th derivative of a function of one number, n times forward mode.

    Args:
        fun: `fun(x, *args)`; its outputs may be arrays and pytrees of them.
        n: Order, 0 or more. The work grows like `2**n`.

    Returns:
        `derivative(x, *args)` for a floating-point scalar x, shaped like the output.

    Raises:
        ValueError: n is no integer >= 0, or x is no scalar.
        TypeError: x or the output is not floating, or `fun` has a `custom_vjp` rule,
            which forward mode cannot pass.

    Example:
        >>> polynomial = lambda x: x**3 + 2 * x**2 - 3 * x + 1
        >>> [float(nth_derivative(polynomial, n)(1.0)) for n in (1, 2, 3, 4)]
        [4.0, 10.0, 6.0, 0.0]
    """
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 0:
        raise ValueError(f"n={n!r}: expected an integer >= 0")
    derived = arguments.floating_output(fun)
    for _ in range(n):
        derived = _slope(derived)

    def derivative(x: PyTree, *args: PyTree) -> PyTree:
        arguments.floating("x", x)
        arguments.scalar("x", x)
        with forward_mode("nth_derivative", "nest jax.grad instead"):
            return derived(jnp.asarray(x), *args)

    return derivative


def _slope(fun: Function) -> Function:
    def slope(x: jax.Array, *args: PyTree) -> PyTree:
        return jax.jvp(lambda x: fun(x, *args), (x,), (jnp.ones_like(x),))[1]

    return slope


def jacobian(fun: Function, mode: str = "auto") -> Function:
    """The Jacobian of a function from pytrees to pytrees.

    Args:
        fun: `fun(x, *args)`.
        mode: `forward` costs one product per number in x, `reverse` one per number in
            the output. `auto` counts both and takes the smaller; `forward` where they
            are equal, because its products need no stored intermediates.

    Returns:
        `of(x, *args)`: the output's tree; in place of each leaf stands a tree like x,
        of arrays of shape `[*output, *x]`.

    Raises:
        ValueError: The mode is unknown.
        TypeError: x or the output is not floating, or forward mode meets a
            `custom_vjp` rule.

    Example:
        >>> matrix = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> jacobian(lambda x: matrix @ x)(jnp.zeros(2)).tolist()
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """
    arguments.one_of("mode", mode, ("auto", *_JACOBIANS))
    checked = arguments.floating_output(fun)

    def of(x: PyTree, *args: PyTree) -> PyTree:
        arguments.floating("x", x)
        chosen = _cheaper(fun, x, *args) if mode == "auto" else mode
        with forward_mode(f"mode={mode!r}", "use mode='reverse'"):
            return _JACOBIANS[chosen](checked)(x, *args)

    return of


def _cheaper(fun: Function, x: PyTree, *args: PyTree) -> str:
    """The mode with fewer products."""
    at, out = jax.eval_shape(lambda x: (x, fun(x, *args)), x)
    return "forward" if _count(at) <= _count(out) else "reverse"


def _count(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def hessian(fun: Function, order: str = "fwd_rev") -> Function:
    """The Hessian as a dense array, or a tree of blocks for a pytree.

    Args:
        fun: `fun(x, *args)`, usually a scalar; other outputs get one Hessian each.
        order: `fwd_rev` (forward over reverse, the cheapest), `rev_fwd` or `rev_rev`.
            Over a `custom_vjp` rule `fwd_rev` and `rev_rev` work.

    Returns:
        `of(x, *args)`, of shape `[*output, *x, *x]`.

    Raises:
        ValueError: The order is unknown.
        TypeError: x or the output is not floating, or forward mode meets a
            `custom_vjp` rule.

    Example:
        >>> hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 3.0])).tolist()
        [[6.0, 2.0], [2.0, 0.0]]
    """
    arguments.one_of("order", order, _HESSIANS)
    second_derivative = _HESSIANS[order](arguments.floating_output(fun))

    def of(x: PyTree, *args: PyTree) -> PyTree:
        arguments.floating("x", x)
        with forward_mode(f"order={order!r}", "use order='fwd_rev'"):
            return second_derivative(x, *args)

    return of


def vector_gradient(fun: Function) -> Function:
    """The gradient of the sum of all outputs, in the shape of the input.

    For a function that works element by element this is its derivative at each element:
    one reverse pass where the Jacobian is diagonal.

    Args:
        fun: `fun(x, *args)`, from pytrees to pytrees.

    Returns:
        `gradient(x, *args)`, shaped like x.

    Raises:
        TypeError: x or the output is not floating.

    Example:
        >>> vector_gradient(lambda x: 3.0 * x**2)(jnp.ones((2, 2))).tolist()
        [[6.0, 6.0], [6.0, 6.0]]
    """
    checked = arguments.floating_output(fun)

    def gradient(x: PyTree, *args: PyTree) -> PyTree:
        arguments.floating("x", x)
        out, pullback = jax.vjp(lambda x: checked(x, *args), x)
        return pullback(jax.tree.map(jnp.ones_like, out))[0]

    return gradient


@contextlib.contextmanager
def forward_mode(what: str, advice: str) -> Iterator[None]:
    """Say in one sentence where forward mode met a rule that has no forward mode."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            f"{what}: expected a function that forward mode can pass, got one with a "
            f"custom_vjp rule, such as clip_gradient; {advice}"
        ) from error
