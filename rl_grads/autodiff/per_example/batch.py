"""One backward pass for a batch, and what its factors give."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rl_grads.autodiff.per_example import factors, interpreter, plan
from rl_grads.autodiff.per_example.factors import Factors
from rl_grads.autodiff.per_example.inputs import Inputs, vary
from rl_grads.autodiff.per_example.plan import Flow
from rl_grads.autodiff.per_example.sites import Site
from rl_grads.typing import PyTree

Leaf = jax.Array | list[Factors] | None  # Whole [B, ...], as factors, or zero.
# Patches are made for blocks of examples, with factors of at most this many numbers and
# at least two blocks, so that they never take much memory. Smaller blocks cost time.
MOST_NUMBERS = 2**18


class Ways(NamedTuple):
    """How the gradient of each parameter is held, by its index.

    Attributes:
        flow: The plan, with the parameters whose use it does not understand.
        factored: As factors.
        assembled: Whole, put together from factors.
    """

    flow: Flow
    factored: frozenset[int]
    assembled: frozenset[int]


class Gradients(NamedTuple):
    """The gradients of a batch, parameter by parameter.

    Attributes:
        leaves: One entry per parameter; none of them is as large as it looks unless
            it is whole.
        shapes: Shapes and types of the parameters.
        losses: `[B]`.
        aux: What the loss returned besides, `[B, ...]`.
    """

    leaves: list[Leaf]
    shapes: Sequence[Any]
    losses: jax.Array
    aux: Any


def choose(inputs: Inputs) -> Ways:
    """How to hold each parameter's gradient."""
    shapes = [tuple(s.shape) for s in inputs.params]
    flow = plan.make(inputs.jaxpr, shapes, len(inputs.jaxpr.invars))
    uses: dict[int, list[Any]] = {}
    for site in interpreter.all_sites(flow.plan):
        uses.setdefault(site.leaf, []).append(site)
    whole = {
        leaf
        for leaf, sites in uses.items()
        if not factors.are_comparable(sites) or factors.is_smaller_whole(sites)
    }
    return Ways(flow, frozenset(uses.keys() - whole), frozenset(whole))


def differentiate(inputs: Inputs, whole: bool = False) -> Gradients:
    """Every example's gradient, by one backward pass over the batch.

    Args:
        inputs: The loss of one example and a batch.
        whole: Whether all gradients are to be held as arrays `[B, ...]`.
    """
    ways = choose(inputs)
    direct = sorted(ways.flow.refused)
    steps = ways.flow.plan
    values = dict(enumerate(inputs.values))

    def single(
        taps: PyTree, own: list[PyTree], rest: dict[int, PyTree]
    ) -> tuple[PyTree, PyTree]:
        values = rest | dict(zip(direct, own, strict=True))
        ordered = [values[i] for i in range(len(values))]
        outs, records = interpreter.evaluate(inputs.jaxpr, ordered, steps, taps)
        return outs[0], (outs, records)

    axes = dict(enumerate(inputs.axes))
    of_direct = [axes.pop(i) for i in direct]
    batched = jax.vmap(
        jax.grad(single, argnums=(0, 1), has_aux=True),
        in_axes=(None, of_direct, axes),
        axis_size=inputs.size,
    )
    own = [values.pop(i) for i in direct]
    taps = jax.tree.map(lambda t: vary(t, inputs.varying), interpreter.zeros(steps))
    gradients, (outs, records) = batched(taps, own, values)
    deltas, owned = gradients
    leaves: list[Leaf] = [None] * len(inputs.params)
    for leaf, value in zip(direct, owned, strict=True):
        leaves[leaf] = value
    for leaf, uses in _by_leaf(steps, records, deltas).items():
        keep = leaf in ways.factored and not whole
        leaves[leaf] = _factors(uses) if keep else _whole(uses, inputs.params[leaf])
    return Gradients(leaves, inputs.params, outs[0], inputs.unflatten_aux(outs[1:]))


class _Use(NamedTuple):
    """A site with what it recorded and its output's derivative, `[B, ...]`."""

    site: Site
    x: Any
    delta: Any


def _by_leaf(steps: PyTree, records: PyTree, deltas: PyTree) -> dict[int, list[_Use]]:
    """The uses of every parameter, by its index."""
    found: dict[int, list[_Use]] = {}
    for site, x, delta in zip(
        interpreter.all_sites(steps),
        interpreter.leaves(steps, records),
        interpreter.leaves(steps, deltas),
        strict=True,
    ):
        found.setdefault(site.leaf, []).append(_Use(site, x, delta))
    return found


def _factors(uses: list[_Use]) -> list[Factors]:
    """The factors of every use, `[B, ...]`."""
    makers = [functools.partial(factors.of_site, use.site) for use in uses]
    return [jax.vmap(f)(u.x, u.delta) for f, u in zip(makers, uses, strict=True)]


def _whole(uses: list[_Use], shape: PyTree) -> jax.Array:
    """Whole gradients `[B, ...]`, put together from factors, block by block."""
    arrays = [a for use in uses for a in (use.x, use.delta)]

    def assemble(rows: list[PyTree]) -> jax.Array:
        own = [r.reshape(a.shape[1:]) for r, a in zip(rows, arrays, strict=True)]
        parts = map(factors.of_site, (u.site for u in uses), own[::2], own[1::2])
        flat = functools.reduce(jnp.add, map(factors.gradient, parts))
        return flat.reshape(shape.shape).astype(shape.dtype)

    # Rows: before a loop XLA copies arrays with axes of length one.
    rows = [a.reshape(a.shape[0], -1) for a in arrays]
    count = len(rows[0])
    if count == 1 or all(use.site.unfold is None for use in uses):
        return jax.vmap(assemble)(rows)
    size = min(block(sum(factors.numbers(u.site) for u in uses)), -(-count // 2))
    # The buffer begins with a late number, not with zeros: those are there from the
    # start of the program, in the way of everything else. All of it is overwritten.
    late = rows[-1][0, 0].astype(shape.dtype)
    return _blockwise(
        assemble, rows, jnp.broadcast_to(late, (count, *shape.shape)), size
    )


def block(numbers: int) -> int:
    """How many examples at a time, if the factors of one are so many numbers."""
    return 2 ** max(0, (MOST_NUMBERS // numbers).bit_length() - 1)


def _blockwise(
    assemble: Callable[[list[PyTree]], jax.Array],
    rows: list[jax.Array],
    out: jax.Array,
    size: int,
) -> jax.Array:
    """`vmap(assemble)(rows)` written over `out`, `size` rows at a time."""
    last = len(out) - size  # The last block may begin inside the one before.

    def put(k: jax.Array, out: jax.Array) -> jax.Array:
        first = jnp.minimum(k * size, last)
        part = [lax.dynamic_slice_in_dim(r, first, size) for r in rows]
        return lax.dynamic_update_slice_in_dim(out, jax.vmap(assemble)(part), first, 0)

    return lax.fori_loop(0, -(-len(out) // size), put, out)


# ------------------------------------------------------------------- what they give


def square_norms(leaf: Leaf, losses: jax.Array) -> jax.Array:
    """`|g_i|^2` of one parameter, like the losses `[B]`."""
    if leaf is None:
        return jnp.zeros_like(_wide(losses))
    if isinstance(leaf, list):
        return jax.vmap(factors.square_norm)(leaf)
    return jax.vmap(factors.square)(_wide(leaf).reshape(losses.size, -1))


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def weighted_sum(
    leaf: Leaf, like: PyTree, weights: jax.Array | None, keep: jax.Array
) -> jax.Array:
    """`sum_i weights_i * g_i` of one parameter over the examples that are kept."""
    if leaf is None:
        return jnp.zeros(like.shape, like.dtype)
    if isinstance(leaf, list):
        parts = [factors.weighted_sum(part, weights, keep) for part in leaf]
        flat = functools.reduce(jnp.add, parts)
    else:
        flat = jnp.sum(factors.weighted(leaf, weights, keep), 0)
    return flat.reshape(like.shape).astype(like.dtype)


def along(leaf: Leaf, direction: jax.Array) -> jax.Array:
    """`<g_i, direction>` of one parameter, `[B]`."""
    if leaf is None:
        return jnp.zeros(())
    if isinstance(leaf, list):
        products = jax.vmap(factors.along, (0, None))
        return functools.reduce(jnp.add, [products(part, direction) for part in leaf])
    return jnp.tensordot(_wide(leaf), _wide(direction), direction.ndim)


def gram(leaf: Leaf, size: int) -> jax.Array:
    """`<g_i, g_j>` of one parameter, `[B, B]`."""
    if leaf is None:
        return jnp.zeros((size, size))
    if isinstance(leaf, list):
        pairs = jax.vmap(jax.vmap(factors.inner_all, (None, 0)), (0, None))
        return pairs(leaf, leaf)
    rows = _wide(leaf).reshape(size, -1)
    return jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)


def norms(gradients: Gradients) -> jax.Array:
    """`|g_i|`, `[B]`; nan where the loss is not finite."""
    return norms_of(
        gradients, [square_norms(leaf, gradients.losses) for leaf in gradients.leaves]
    )


def norms_of(gradients: Gradients, squares: Sequence[jax.Array]) -> jax.Array:
    """The norms from the square norms of the parameters."""
    total = functools.reduce(jnp.add, squares, jnp.zeros_like(_wide(gradients.losses)))
    return jnp.where(jnp.isfinite(gradients.losses), root(total), jnp.nan)


def root(square: PyTree) -> jax.Array:
    """The square root, with derivative zero at zero."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def weighted_sums(
    gradients: Gradients, weights: jax.Array | None, keep: jax.Array
) -> list[jax.Array]:
    """`sum_i weights_i * g_i` of every parameter over the examples that are kept."""
    return [
        weighted_sum(leaf, like, weights, keep)
        for leaf, like in zip(gradients.leaves, gradients.shapes, strict=True)
    ]
