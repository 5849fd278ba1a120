"""Evaluate a jaxpr with taps at its sites, and return what each site recorded.

Taps and records are trees shaped like the plan: by the index of the equation, an
array at a site and a tuple of trees, one per inner jaxpr, at an equation entered.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from rl_grads.autodiff.per_example import jaxprs, sites
from rl_grads.autodiff.per_example.plan import Plan
from rl_grads.autodiff.per_example.sites import Site
from rl_grads.typing import PyTree, State

Tree = dict[int, Any]


def all_sites(plan: Plan) -> list[Site]:
    """The sites of a plan in the order in which `leaves` lists taps and records."""
    return _in_order(plan, plan.sites, lambda inner, _: all_sites(inner), plan.inner)


def leaves(plan: Plan, tree: Tree) -> list[PyTree]:
    """The arrays of taps or records, in the order of `all_sites`."""
    return _in_order(plan, tree, leaves, tree)


def _in_order(
    plan: Plan,
    own: PyTree,
    below: Callable[[Plan, PyTree], list[PyTree]],
    trees: PyTree,
) -> list[PyTree]:
    found = []
    for index in sorted(plan.sites | plan.inner):
        if index in plan.sites:
            found.append(own[index])
        else:
            pairs = zip(plan.inner[index], trees[index], strict=True)
            found += [x for inner, tree in pairs for x in below(inner, tree)]
    return found


def zeros(plan: Plan) -> Tree:
    """Taps that change nothing."""
    own = {i: jnp.zeros(s.tap.shape, s.tap.dtype) for i, s in plan.sites.items()}
    return own | {i: tuple(map(zeros, inner)) for i, inner in plan.inner.items()}


def evaluate(
    jaxpr: Jaxpr, inputs: Sequence[PyTree], plan: Plan, taps: Tree
) -> tuple[list[PyTree], Tree]:
    """The outputs of a jaxpr, and what every site in it records."""
    values = dict(zip(jaxpr.constvars, jaxprs.consts(jaxpr), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))
    records: Tree = {}
    for index, eqn in enumerate(jaxpr.eqns):
        operands = [_read(values, v) for v in eqn.invars]
        with eqn.ctx.manager:
            outs, record = _equation(eqn, operands, plan, index, taps.get(index))
        values |= dict(zip(eqn.outvars, outs, strict=True))
        if record is not None:
            records[index] = record
    return [_read(values, v) for v in jaxpr.outvars], records


def _equation(
    eqn: JaxprEqn, operands: list[PyTree], plan: Plan, index: int, taps: PyTree
) -> tuple[list[PyTree], PyTree]:
    """The outputs of one equation, and its record or None."""
    if index in plan.sites:
        out, record = sites.call(eqn, operands, plan.sites[index], taps)
        return [out], record
    if index in plan.inner:
        return _ENTER[eqn.primitive.name](eqn, operands, plan.inner[index], taps)
    return _plain(eqn, operands, index in plan.unfolded), None


def _read(values: dict[PyTree, PyTree], variable: PyTree) -> PyTree:
    return variable.val if isinstance(variable, Literal) else values[variable]


def _plain(eqn: JaxprEqn, operands: list[PyTree], unfold: bool) -> list[PyTree]:
    """An equation without sites, as it is."""
    if unfold:
        return [sites.convolve(eqn, *operands)]
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*operands, **params)
    return out if eqn.primitive.multiple_results else [out]


Entered = tuple[list[Any], tuple[Tree, ...]]


def _call(
    eqn: JaxprEqn,
    operands: list[PyTree],
    plans: tuple[Plan, ...],
    taps: tuple[Tree, ...],
) -> Entered:
    outs, records = evaluate(eqn.params["jaxpr"], operands, plans[0], taps[0])
    return outs, (records,)


def _checkpointed(
    eqn: JaxprEqn,
    operands: list[PyTree],
    plans: tuple[Plan, ...],
    taps: tuple[Tree, ...],
) -> Entered:
    """Records outlive the call; everything else is computed again."""

    def inner(operands: list[PyTree], taps: tuple[Tree, ...]) -> Entered:
        return _call(eqn, operands, plans, taps)

    params = eqn.params
    again = jax.checkpoint(
        inner, policy=params["policy"], prevent_cse=params["prevent_cse"]
    )
    return again(operands, taps)


def _conditional(
    eqn: JaxprEqn,
    operands: list[PyTree],
    plans: tuple[Plan, ...],
    taps: tuple[Tree, ...],
) -> Entered:
    """Sites of the branch not taken record zeros, and their taps have no effect."""
    index, *operands = operands
    branches = eqn.params["branches"]

    def run(
        which: int, operands: list[PyTree], taps: PyTree
    ) -> tuple[list[PyTree], Tree]:
        return evaluate(branches[which], operands, plans[which], taps[which])

    shapes = [
        jax.eval_shape(lambda o, t, i=i: run(i, o, t)[1], operands, taps)
        for i in range(len(branches))
    ]

    def branch(which: int) -> Callable[..., Entered]:
        def inner(operands: list[PyTree], taps: PyTree) -> Entered:
            outs, own = run(which, operands, taps)
            idle = _zeros_like(shapes, taps)
            others = range(len(branches))
            return outs, tuple(own if i == which else idle[i] for i in others)

        return inner

    which = [branch(i) for i in range(len(branches))]
    return lax.switch(index, which, operands, taps)


def _zeros_like(shapes: PyTree, taps: tuple[Tree, ...]) -> PyTree:
    """Zeros that differ along the mesh axes of an enclosing `shard_map` as taps do.

    Spread out from a tap: inside a scan JAX cannot differentiate a `pcast` of a
    constant.
    """
    first = jax.tree.leaves(taps)[:1]
    zero = jnp.sum(lax.stop_gradient(first[0])) if first else jnp.zeros(())
    return jax.tree.map(
        lambda s: jnp.broadcast_to(zero.astype(s.dtype), s.shape), shapes
    )


def _loop(
    eqn: JaxprEqn,
    operands: list[PyTree],
    plans: tuple[Plan, ...],
    taps: tuple[Tree, ...],
) -> Entered:
    """Taps and records of the body get an axis of time."""
    division, body = jaxprs.loop(eqn), eqn.params["jaxpr"]
    start, stop = division.consts, division.consts + division.carry
    consts = operands[:start]
    places: list[Any] = []  # Which of the distinct records each one is.

    def step(
        carry: list[State], now: tuple[list[PyTree], Tree]
    ) -> tuple[list[PyTree], PyTree]:
        xs, taps = now
        outs, records = evaluate(body, [*consts, *carry, *xs], plans[0], taps)
        distinct = {id(x): x for x in jax.tree.leaves(records)}
        order = list(distinct)
        places[:] = [jax.tree.map(lambda x: order.index(id(x)), records)]
        own = division.carry
        return outs[:own], (outs[own:], list(distinct.values()))

    carry, (ys, stacked) = lax.scan(
        step,
        operands[start:stop],
        (operands[stop:], taps[0]),
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=eqn.params["unroll"],
    )
    return [*carry, *ys], (jax.tree.map(lambda place: stacked[place], places[0]),)


_ENTER = dict.fromkeys(jaxprs.CALLS, _call) | {
    "remat": _checkpointed,
    "remat2": _checkpointed,
    "checkpoint": _checkpointed,
    "cond": _conditional,
    "scan": _loop,
}
