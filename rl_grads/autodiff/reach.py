"""Which inputs of a function reach its output by a path with a derivative."""

import functools
import operator
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import core
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from rl_grads.typing import Function, PyTree

# Their derivative is zero wherever it exists.
_FLAT = {"stop_gradient", "sign", "floor", "ceil", "round"}
# Where rules of derivatives are written that follow the value; others may lead to
# inputs that the value does not depend on.
_HERE = os.path.dirname(__file__)
_FAITHFUL = (
    os.path.dirname(jax.__file__) + os.sep,
    os.path.join(_HERE, "mixed_mode.py"),
    os.path.join(_HERE, "steps.py"),
)


def reaching(fun: Function, *args: PyTree) -> PyTree:
    """Whether each leaf of the arguments can have a derivative in the output.

    Nothing is computed. False is certain: the derivative is zero everywhere. Loops,
    branches and foreign rules count as one operation, so True may be too much there.

    Args:
        fun: `fun(*args)`, any pytree out.
        args: Pytrees of arrays, or of their shapes (`jax.ShapeDtypeStruct`).

    Returns:
        The structure of `args`, a bool at each leaf.

    Example:
        >>> where = lambda x, y: jnp.where(x > 0, y, 0.0)
        >>> reaching(where, 1.0, 2.0)
        (False, True)
    """
    traced = jax.make_jaxpr(fun)(*args)
    tree = jax.tree.structure(args)
    sets = [1 << k for k in range(tree.num_leaves)]  # One bit for each leaf.
    found = _union(_outputs(traced.jaxpr, sets))
    return jax.tree.unflatten(tree, [bool(found & bit) for bit in sets])


def _union(sets: Sequence[int]) -> int:
    return functools.reduce(operator.or_, sets, 0)


def _outputs(jaxpr: Jaxpr, sets: Sequence[int]) -> list[int]:
    """For each output of a jaxpr the leaves that reach it, from those of its inputs."""
    known = dict(zip(jaxpr.invars, sets, strict=True))

    def reached(atom: Var | Literal) -> int:
        if isinstance(atom, Literal) or not _is_smooth(atom):
            return 0
        return known.get(atom, 0)

    for eqn in jaxpr.eqns:
        inputs = [reached(atom) for atom in eqn.invars]
        if any(inputs) and eqn.primitive.name not in _FLAT:
            known |= dict(zip(eqn.outvars, _through(eqn, inputs), strict=True))
    return [reached(atom) for atom in jaxpr.outvars]


def _is_smooth(var: Var) -> bool:
    return isinstance(var.aval, core.ShapedArray) and jnp.issubdtype(
        var.aval.dtype, jnp.inexact
    )


def _through(eqn: JaxprEqn, inputs: Sequence[int]) -> list[int]:
    """The leaves that reach each output of an equation."""
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    inner = getattr(inner, "jaxpr", inner)
    if inner is None or len(inner.invars) != len(inputs) or _is_opaque(eqn, inner):
        return [_union(inputs)] * len(eqn.outvars)
    return _outputs(inner, inputs)


def _is_opaque(eqn: JaxprEqn, inner: PyTree) -> bool:
    """Whether an equation with a jaxpr inside is more than its value."""
    if not eqn.primitive.name.startswith("custom_"):
        return eqn.primitive.name in ("scan", "while")
    source = inner.debug_info.func_src_info or ""
    return not any(place in source for place in _FAITHFUL)
