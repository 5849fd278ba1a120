"""Gradients split by the path that they take."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from rl_grads.typing import Params, PyTree

_CALLS = ("jit", "pjit", "closed_call", "checkpoint", "remat2")
_SEVERAL = "\0"  # The mark of what depends on more than one input.


def along(
    fun: Callable[[PyTree, Mapping[str, PyTree]], PyTree], name: str | None
) -> Callable[[PyTree, Mapping[str, PyTree]], PyTree]:
    """The same function, with derivatives along one kind of path only.

    A path leads from the parameters to the output. It belongs to the input with which
    it meets first: in `f(w, s) - f(w, t)` one path goes through s and one through t. A
    path that meets none of them, or several at once, belongs to None. So the gradients
    of all kinds add up to the gradient.

    Args:
        fun: `fun(params, inputs)`; nothing but the two is differentiated. Loops,
            branches and functions with a custom rule count as one operation.
        name: One of the names in `inputs`, or None.

    Returns:
        `fun(params, inputs)`, of the same value.

    Raises:
        ValueError: When it is called, if there is no such input.

    Example:
        >>> fun = lambda w, inputs: w * inputs["s"] - w**2 * inputs["t"] + 5 * w
        >>> inputs = {"s": 3.0, "t": 0.5}
        >>> kinds = ("s", "t", None)
        >>> [jax.grad(along(fun, kind))(2.0, inputs).item() for kind in kinds]
        [3.0, -2.0, 5.0]
    """

    def restricted(params: Params, inputs: Mapping[str, PyTree]) -> PyTree:
        if name is not None and name not in inputs:
            known = ", ".join(map(repr, inputs))
            raise ValueError(f"name={name!r}: expected one of {known} or None")
        traced, shape = jax.make_jaxpr(fun, return_shape=True)(params, dict(inputs))
        marked = [(leaf, None) for leaf in jax.tree.leaves(params)]
        for key in sorted(inputs):  # As JAX flattens a dict.
            marked += [(leaf, key) for leaf in jax.tree.leaves(inputs[key])]
        outs = _join(_evaluate(traced, marked, name), _SEVERAL, name)
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

    return restricted


# A value, and the name of the one input that it depends on, None or `_SEVERAL`.
_Marked = tuple[Any, str | None]


def _evaluate(
    traced: PyTree, inputs: Sequence[_Marked], name: str | None
) -> list[_Marked]:
    """The outputs of a jaxpr, with marks."""
    jaxpr, consts = getattr(traced, "jaxpr", traced), getattr(traced, "consts", ())
    values: dict[Any, _Marked] = {
        variable: (value, None)
        for variable, value in zip(jaxpr.constvars, consts, strict=True)
    }
    values |= zip(jaxpr.invars, inputs, strict=True)

    def read(variable: PyTree) -> _Marked:
        is_literal = isinstance(variable, Literal)
        return (variable.val, None) if is_literal else values[variable]

    for eqn in jaxpr.eqns:
        outs = _apply(eqn, [read(variable) for variable in eqn.invars], name)
        values |= zip(eqn.outvars, outs, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _apply(eqn: JaxprEqn, operands: list[_Marked], name: str | None) -> list[_Marked]:
    """One equation; where marks meet, only the wanted path goes on."""
    if eqn.primitive.name in _CALLS:
        return _evaluate(eqn.params["jaxpr"], operands, name)
    mark = _meet([mark for _, mark in operands])
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*_join(operands, mark, name), **params)
    outs = out if eqn.primitive.multiple_results else [out]
    return [(value, mark) for value in outs]


def _meet(marks: Sequence[str | None]) -> str | None:
    different = set(marks) - {None}
    return _SEVERAL if len(different) > 1 else next(iter(different), None)


def _join(
    operands: Sequence[_Marked], to: str | None, name: str | None
) -> list[PyTree]:
    """The values, cut off where another path than the wanted one ends."""
    ends = to == _SEVERAL
    return [
        _constant(value) if ends and mark not in (_SEVERAL, name) else value
        for value, mark in operands
    ]


def _constant(value: PyTree) -> PyTree:
    smooth = jnp.issubdtype(jnp.result_type(value), jnp.inexact)
    return jax.lax.stop_gradient(value) if smooth else value
