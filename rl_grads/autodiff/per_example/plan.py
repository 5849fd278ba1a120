"""What to do where in a jaxpr: a walk over its variables that carries views along."""

from collections.abc import Sequence
from typing import NamedTuple

from jax.extend.core import Jaxpr, JaxprEqn, Literal

from rl_grads.autodiff.per_example import jaxprs, sites
from rl_grads.autodiff.per_example.sites import Refusal, Site
from rl_grads.autodiff.per_example.views import Axis, View, moved, whole
from rl_grads.typing import PyTree

Tag = View | bool  # True: computed from parameters; False: not.


class Plan(NamedTuple):
    """What to do at the equations of one jaxpr, by their index.

    Attributes:
        sites: Equations that get a tap.
        unfolded: Convolutions to be computed as matrix products of patches.
        inner: Equations to be entered, with the plan of each of their jaxprs.
    """

    sites: dict[int, Site]
    unfolded: frozenset[int]
    inner: dict[int, tuple["Plan", ...]]

    def __bool__(self) -> bool:
        return bool(self.sites or self.unfolded or self.inner)


class Flow(NamedTuple):
    """What a walk found: a plan, the tags of the outputs, and refused parameters."""

    plan: Plan
    outs: tuple[Tag, ...]
    refused: dict[int, str]


class _Step(NamedTuple):
    """The same for one equation."""

    outs: tuple[Tag, ...]
    site: Site | None = None
    unfold: bool = False
    inner: tuple[Plan, ...] = ()
    refused: dict[int, str] = {}  # noqa: RUF012 (a NamedTuple default, never mutated)


def make(jaxpr: Jaxpr, shapes: Sequence[tuple[int, ...]], num_inputs: int) -> Flow:
    """The plan for a jaxpr whose first inputs are parameters of these shapes.

    The first output is the loss. `refused` holds the parameters whose use is not
    understood, with the reason.
    """
    refused: dict[int, str] = {}
    for _ in range(2):  # A refused parameter is an ordinary input the second time.
        tags = [i in refused or whole(i, shape) for i, shape in enumerate(shapes)]
        tags += [False] * (num_inputs - len(tags))
        live = (True, *(False,) * (len(jaxpr.outvars) - 1))
        flow = walk(jaxpr, tags, live)
        refused = _refuse(flow.outs[:1], "is the loss itself") | flow.refused | refused
    return flow._replace(refused=refused)


def _refuse(tags: Sequence[Tag], reason: str) -> dict[int, str]:
    return {tag.leaf: reason for tag in tags if isinstance(tag, View)}


def walk(jaxpr: Jaxpr, tags: Sequence[Tag], live_out: Sequence[bool]) -> Flow:
    """The plan of one jaxpr, given what its inputs are and which outputs matter."""
    live, _ = jaxprs.live_equations(jaxpr, live_out)
    known = {v: t for v, t in zip(jaxpr.invars, tags, strict=True) if t}
    steps = {}
    for index, eqn in enumerate(jaxpr.eqns):
        passes = live[index].ins if index in live else (False,) * len(eqn.invars)
        pairs = zip(eqn.invars, passes, strict=True)
        ins = [_read(known, v) if live_in else False for v, live_in in pairs]
        if any(ins):
            steps[index] = step = _step(eqn, ins, live[index].outs)
            known |= {v: t for v, t in zip(eqn.outvars, step.outs, strict=True) if t}
    refused: dict[int, str] = {}
    for step in steps.values():
        refused = step.refused | refused
    plan = Plan(
        sites={i: s.site for i, s in steps.items() if s.site},
        unfolded=frozenset(i for i, s in steps.items() if s.unfold),
        inner={i: s.inner for i, s in steps.items() if any(s.inner)},
    )
    return Flow(plan, tuple(_read(known, v) for v in jaxpr.outvars), refused)


def _read(known: dict[PyTree, Tag], variable: PyTree) -> Tag:
    return False if isinstance(variable, Literal) else known.get(variable, False)


def _step(eqn: JaxprEqn, ins: list[Tag], live: tuple[bool, ...]) -> _Step:
    name = eqn.primitive.name
    if name in jaxprs.CALLS:
        flow = walk(eqn.params["jaxpr"], ins, live)
        return _Step(flow.outs, inner=(flow.plan,), refused=flow.refused)
    if name == "cond":
        return _conditional(eqn, ins, live)
    if name == "scan":
        return _loop(eqn, ins, live)
    views = [tag for tag in ins if isinstance(tag, View)]
    if len(views) == 1:
        return _use(eqn, ins.index(views[0]), views[0])
    refused = _refuse(views, f"is not the only parameter in a {name}")
    unfold = name == "conv_general_dilated" and sites.unfolds(eqn)
    return _Step((True,) * len(live), unfold=unfold, refused=refused)


def _use(eqn: JaxprEqn, operand: int, view: View) -> _Step:
    """A parameter is moved, or meets an operation."""
    others = (True,) * len(eqn.outvars)
    after = moved(eqn, view)
    if after is not None:
        return _Step((after,))
    found = sites.find(eqn, operand, view)
    if isinstance(found, Refusal):
        unfold = eqn.primitive.name == "conv_general_dilated" and sites.unfolds(eqn)
        return _Step(others, unfold=unfold, refused={view.leaf: found.reason})
    return _Step(others, site=found)


def _conditional(eqn: JaxprEqn, ins: list[Tag], live: tuple[bool, ...]) -> _Step:
    flows = [walk(branch, ins[1:], live) for branch in eqn.params["branches"]]
    refused: dict[int, str] = {}
    for flow in flows:
        refused |= flow.refused | _refuse(flow.outs, "leaves a branch of cond")
    return _Step(
        (True,) * len(live), inner=tuple(f.plan for f in flows), refused=refused
    )


def _loop(eqn: JaxprEqn, ins: list[Tag], live: tuple[bool, ...]) -> _Step:
    """A scan: parameters may be constants of its body, or scanned over."""
    consts, carry, _ = jaxprs.loop(eqn)
    body, length = eqn.params["jaxpr"], eqn.params["length"]
    stop = consts + carry
    # A carry that never changes is a constant.
    unchanged = [body.outvars[i] is body.invars[consts + i] for i in range(carry)]
    constant = [True] * consts + unchanged
    tags = [
        *(
            _at_all_times(t, length) if k else bool(t)
            for t, k in zip(ins, constant, strict=False)
        ),
        *(_at_its_time(t, length) for t in ins[stop:]),
    ]
    flow = walk(body, tags, jaxprs.live_in_loop(eqn, live)[0])
    changed = [t for t, k in zip(ins[:stop], constant, strict=True) if not k]
    left = [t for t, k in zip(flow.outs[:carry], unchanged, strict=True) if not k]
    refused = _refuse(changed, "is carried through a scan")
    refused |= _refuse([*left, *flow.outs[carry:]], "leaves a scan") | flow.refused
    outs = [t if k else True for t, k in zip(ins[consts:stop], unchanged, strict=True)]
    outs += [True] * (len(live) - carry)
    return _Step(tuple(outs), inner=(flow.plan,), refused=refused)


def _at_all_times(tag: Tag, length: int) -> Tag:
    """A parameter that every step of a scan sees: its gradient is summed over time."""
    if not isinstance(tag, View):
        return tag
    time = Axis(length, 0, ("time", len(tag.outer)))
    return tag._replace(outer=(*tag.outer, (time,)))


def _at_its_time(tag: Tag, length: int) -> Tag:
    """A parameter of which each step of a scan sees one slice."""
    if not isinstance(tag, View):
        return tag
    axes = tag.axes[0] or (Axis(length, 0, ("time", len(tag.outer))),)
    inside = tag.pick(range(1, len(tag.shape)))
    return inside._replace(outer=(*tag.outer, axes))
