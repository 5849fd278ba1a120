"""Which way was taken for each parameter, and why."""

import math
from typing import NamedTuple

from rl_grads.autodiff.per_example import batch, factors, inputs, interpreter
from rl_grads.autodiff.per_example.inputs import InAxes
from rl_grads.autodiff.per_example.sites import Site
from rl_grads.typing import LossFunction, Params, PyTree


class Explanation(NamedTuple):
    """How the per-example gradients of one parameter are held.

    Attributes:
        name: Of the parameter, `params['w']`.
        shape: Of the parameter.
        way: `factors` (never formed), `assembled` (formed from factors, because that
            is smaller), `materialised` (differentiated example by example) or
            `unused`.
        reason: Why.
        numbers: Numbers held for each example.
    """

    name: str
    shape: tuple[int, ...]
    way: str
    reason: str
    numbers: int

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        return (
            f"{self.name} [{shape}]: {self.way}, {self.numbers} numbers per example "
            f"({self.reason})"
        )


def explain(
    loss_fn: LossFunction,
    params: Params,
    *args: PyTree,
    in_axes: InAxes = None,
    has_aux: bool = False,
) -> tuple[Explanation, ...]:
    """Say for every parameter how its per-example gradients are held, and why.

    Nothing is computed; arrays may be `jax.ShapeDtypeStruct`.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        params: The parameters.
        *args: The batch.
        in_axes: See `per_example_gradients`.
        has_aux: See `per_example_gradients`.

    Raises:
        TypeError, ValueError: See `gradient_with_norms`.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda p, x: jnp.sum(p["w"] @ x + p["b"])
        >>> params = {"w": jnp.ones((3, 4)), "b": jnp.ones(3)}
        >>> print(*explain(loss, params, jnp.ones((8, 4))), sep="\\n")
        params['b'] [3]: materialised, 3 numbers per example (meets add)
        params['w'] [3x4]: factors, 7 numbers per example (dot_general)
    """
    given = inputs.read(loss_fn, params, args, in_axes, has_aux)
    ways = batch.choose(given)
    uses: dict[int, list[Site]] = {}
    for site in interpreter.all_sites(ways.flow.plan):
        uses.setdefault(site.leaf, []).append(site)

    def explain_leaf(leaf: int) -> Explanation:
        shape = tuple(given.params[leaf].shape)
        size = math.prod(shape)
        way, reason, numbers = "unused", "the loss does not depend on it", 0
        if leaf in ways.flow.refused:
            way, reason, numbers = "materialised", ways.flow.refused[leaf], size
        elif leaf in ways.assembled:
            way, reason, numbers = "assembled", _uses(uses[leaf]), size
        elif leaf in ways.factored:
            numbers = sum(map(factors.numbers, uses[leaf]))
            way, reason = "factors", _uses(uses[leaf])
        return Explanation(given.names[leaf], shape, way, reason, numbers)

    return tuple(map(explain_leaf, range(len(given.params))))


def _uses(sites: list[Site]) -> str:
    """`dot_general at 16 places, gather`."""
    return ", ".join(_use(site) for site in sites)


def _use(site: Site) -> str:
    places = factors.num_places(site)
    return site.operation + (f" at {places} places" if places > 1 else "")
