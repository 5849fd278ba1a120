"""Reading jaxprs: inner jaxprs, and where a derivative passes.

Written for the equations of jax 0.10 and of 0.11 and later.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import core
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from rl_grads.typing import PyTree

CALLS = ("jit", "pjit", "remat2", "checkpoint", "remat")
_NO_DERIVATIVE = ("stop_gradient",)


class Loop(NamedTuple):
    """How the operands of a scan divide into constants, carry and scanned inputs."""

    consts: int
    carry: int
    xs: int


def loop(eqn: JaxprEqn) -> Loop:
    """The division of a scan's operands."""
    if "ft_in" in eqn.params:
        return Loop(*(len(list(part)) for part in eqn.params["ft_in"].unpack()))
    consts, carry = eqn.params["num_consts"], eqn.params["num_carry"]
    return Loop(consts, carry, len(eqn.invars) - consts - carry)


def inner_jaxprs(eqn: JaxprEqn) -> tuple[PyTree, ...]:
    """The jaxprs that this transformation can enter; none for other equations."""
    name = eqn.primitive.name
    if name == "cond":
        return tuple(eqn.params["branches"])
    return (eqn.params["jaxpr"],) if name in CALLS or name == "scan" else ()


def consts(jaxpr: Jaxpr) -> Sequence[PyTree]:
    """Values of the constants of a jaxpr."""
    return getattr(jaxpr, "consts", ())


def array(variable: Var | Literal) -> core.ShapedArray:
    """Shape and dtype of a variable, which all are here: arrays."""
    assert isinstance(variable.aval, core.ShapedArray)
    return variable.aval


def is_float(variable: PyTree) -> bool:
    """Whether a derivative can pass through a variable."""
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


class Live(NamedTuple):
    """Which outputs and which operands of an equation a derivative passes through."""

    outs: tuple[bool, ...]
    ins: tuple[bool, ...]


def live_equations(
    jaxpr: Jaxpr, live_out: Sequence[bool]
) -> tuple[dict[int, Live], tuple[bool, ...]]:
    """The equations that the derivative of some outputs passes through.

    What an integer or a `stop_gradient` hides is not live. Where in doubt it is.

    Returns:
        What is live by the index of the equation; and which inputs are.
    """
    alive = {v for v, live in zip(jaxpr.outvars, live_out, strict=True) if live}
    alive = {v for v in alive if not isinstance(v, Literal)}
    found = {}
    for index, eqn in reversed(list(enumerate(jaxpr.eqns))):
        outs = tuple(v in alive and is_float(v) for v in eqn.outvars)
        if any(outs):
            passes = zip(eqn.invars, _live_inputs(eqn, outs), strict=True)
            ins = tuple(
                p and not isinstance(v, Literal) and is_float(v) for v, p in passes
            )
            found[index] = Live(outs, ins)
            read = zip(eqn.invars, ins, strict=True)
            alive.update(v for v, p in read if p and isinstance(v, Var))
    return found, tuple(v in alive for v in jaxpr.invars)


def _live_inputs(eqn: JaxprEqn, outs: tuple[bool, ...]) -> tuple[bool, ...]:
    name = eqn.primitive.name
    if name in _NO_DERIVATIVE:
        return (False,) * len(eqn.invars)
    if name in CALLS:
        return live_equations(eqn.params["jaxpr"], outs)[1]
    if name == "cond":
        each = [live_equations(b, outs)[1] for b in eqn.params["branches"]]
        return (False, *(any(live) for live in zip(*each, strict=True)))
    if name == "scan":
        return live_in_loop(eqn, outs)[1]
    return (True,) * len(eqn.invars)


def live_in_loop(
    eqn: JaxprEqn, outs: tuple[bool, ...]
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which outputs of a scan's body are live in some step, and which operands."""
    division, body = loop(eqn), eqn.params["jaxpr"]
    start, stop = division.consts, division.consts + division.carry
    while True:
        ins = live_equations(body, outs)[1]
        carry = [a or b for a, b in zip(outs, ins[start:stop], strict=False)]
        grown = (*carry, *outs[division.carry :])
        if grown == outs:
            return outs, ins
        outs = grown
