"""Which parameters belong to the last layer of a function, read from its jaxpr."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.extend import core
from jax.extend.core import Jaxpr, JaxprEqn

from rl_grads.typing import Function, Params, PyTree

_PRODUCTS = ("dot_general", "conv_general_dilated")


class _Origin(NamedTuple):
    """Last parameters behind a value, by number, and whether inputs are behind it."""

    leaves: frozenset[int]
    of_inputs: bool


_NOTHING = _Origin(frozenset(), False)


def last_layer(fun: Function, params: Params, *args: PyTree) -> PyTree:
    """The parameters through which `fun` reaches its output without another layer.

    A layer is a product (`dot_general` or a convolution) of a parameter with something
    that depends on the inputs. What is added or multiplied later, a bias or a scale,
    belongs to it. Several heads are one last layer.

    Args:
        fun: `fun(params, *args)`, traceable.
        params: A pytree of arrays.
        *args: Inputs of the right shapes.

    Returns:
        A pytree of bools with the structure of `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> def net(params, x):
        ...     return jnp.tanh(x @ params["a"]) @ params["b"] + params["c"]
        >>> params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2)), "c": jnp.ones(2)}
        >>> last_layer(net, params, jnp.ones(3))
        {'a': False, 'b': True, 'c': True}
    """
    leaves, structure = jax.tree.flatten(params)
    traced = jax.make_jaxpr(fun)(params, *args).jaxpr
    inputs = [_Origin(frozenset([n]), False) for n in range(len(leaves))]
    rest = len(traced.invars) - len(leaves)
    outputs = _follow(traced, inputs + [_Origin(frozenset(), True)] * rest)
    found = _union(outputs).leaves
    return jax.tree.unflatten(structure, [n in found for n in range(len(leaves))])


def _follow(jaxpr: Jaxpr, inputs: Sequence[_Origin]) -> list[_Origin]:
    """The origins of a jaxpr's outputs, from those of its inputs."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def origin(atom: PyTree) -> _Origin:
        # A literal has no place in the table, nor has a constant.
        return _NOTHING if isinstance(atom, core.Literal) else known.get(atom, _NOTHING)

    for equation in jaxpr.eqns:
        origins = [origin(atom) for atom in equation.invars]
        known |= zip(equation.outvars, _through(equation, origins), strict=True)
    return [origin(atom) for atom in jaxpr.outvars]


def _through(equation: JaxprEqn, origins: list[_Origin]) -> list[_Origin]:
    inner = _inner(equation)
    if inner is not None:
        return _follow(inner, origins)
    weights = [o for o in origins if o.leaves and not o.of_inputs]
    if equation.primitive.name in _PRODUCTS and len(weights) == 1:
        return [_Origin(weights[0].leaves, True)]
    return [_union(origins)] * len(equation.outvars)


def _inner(equation: JaxprEqn) -> PyTree:
    """The jaxpr that a call, or one step of a scan, consists of; None otherwise."""
    parts = [getattr(p, "jaxpr", p) for p in equation.params.values()]
    jaxprs = [p for p in parts if isinstance(p, core.Jaxpr)]
    fitting = len(jaxprs) == 1 and len(jaxprs[0].invars) == len(equation.invars)
    return jaxprs[0] if fitting else None


def _union(origins: Sequence[_Origin]) -> _Origin:
    leaves = frozenset[int]().union(*(o.leaves for o in origins))
    return _Origin(leaves, any(o.of_inputs for o in origins))
