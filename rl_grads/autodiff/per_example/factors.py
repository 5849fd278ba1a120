"""One example's gradient of one parameter, kept as the factors of a product.

    g[b, k, n] = sum_f x[b, f, k] * delta[b, f, n]

`f` are the places (time, patches, uses) over which a parameter is shared, `k` and `n`
its axes in the record and in the output, `b` those that both have. A look-up has an
integer record `x[f]`, the row that place f reads. All functions here are about ONE
example, but for `weighted_sum`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rl_grads.autodiff.per_example.sites import Site
from rl_grads.autodiff.per_example.views import Axes, Axis
from rl_grads.typing import PyTree

_EXACT = lax.Precision.HIGHEST  # A GPU's default would cost half of the digits.


class Labels(NamedTuple):
    """The axes of the parameter in a pair of factors.

    Attributes:
        both: Those of the record and of the output.
        record: Those of the record alone; for a look-up, of its rows.
        output: Those of the output alone.
        is_look_up: Whether the record is an index of rows.
    """

    both: Axes
    record: Axes
    output: Axes
    is_look_up: bool

    @property
    def order(self) -> tuple[int, ...]:
        """How to sort `both, record, output` into the parameter's own order."""
        axes = self.both + self.record + self.output
        return tuple(sorted(range(len(axes)), key=lambda a: -axes[a].stride))

    @property
    def size(self) -> int:
        """Numbers in the gradient."""
        return _size(self.both + self.record + self.output)


@dataclasses.dataclass(frozen=True)
class Factors:
    """`x [*both, f, *record]` (`[f]` of a look-up), `delta [*both, f, *output]`."""

    labels: Labels
    x: jax.Array
    delta: jax.Array

    @property
    def places(self) -> int:
        """How many places share the parameter."""
        return self.delta.shape[len(self.labels.both)]


jax.tree_util.register_dataclass(Factors, ("x", "delta"), ("labels",))


def _size(axes: Axes) -> int:
    return math.prod(a.size for a in axes)


# ------------------------------------------------------------------- from a site


def of_site(site: Site, x: PyTree, delta: PyTree) -> Factors:
    """The factors of one site, from what it recorded and its output's derivative."""
    x = x if site.unfold is None else site.unfold(x)
    in_x, in_delta = _flat(site.x), _flat(site.delta)
    delta = delta.reshape([a.size for a in in_delta])
    x = x.reshape([a.size for a in in_x])
    if delta.dtype in (jnp.bfloat16, jnp.float16):
        delta = delta.astype(jnp.float32)
    labels = _labels(site, in_x, in_delta)
    places = tuple(a for a in in_delta if a in in_x and not a.stride)
    first = (*labels.both, *places)
    delta = _arrange(delta, in_delta, first + labels.output)
    delta = delta.reshape(_merged(labels.both, places, labels.output))
    if labels.is_look_up:
        return Factors(labels, _arrange(x, in_x, places).reshape(-1), delta)
    x = _arrange(x, in_x, first + labels.record).astype(delta.dtype)
    return Factors(
        labels, x.reshape(_merged(labels.both, places, labels.record)), delta
    )


def labels_of(site: Site) -> Labels:
    """The labels of the factors that a site makes."""
    return _labels(site, _flat(site.x), _flat(site.delta))


def num_places(site: Site) -> int:
    """At how many places a site shares its parameter."""
    shared = set(_flat(site.x)) & set(_flat(site.delta))
    return _size(tuple(a for a in shared if not a.stride))


def _flat(axes: tuple[Axes, ...]) -> Axes:
    return tuple(itertools.chain(*axes))


def _labels(site: Site, in_x: Axes, in_delta: Axes) -> Labels:
    own_x = tuple(a for a in in_x if a.stride)
    own_delta = tuple(a for a in in_delta if a.stride)
    return Labels(
        both=_sorted(a for a in own_x if a in own_delta),
        record=site.rows or _sorted(a for a in own_x if a not in own_delta),
        output=_sorted(a for a in own_delta if a not in own_x),
        is_look_up=site.rows is not None,
    )


def _sorted(axes: PyTree) -> Axes:
    return tuple(sorted(axes, key=lambda a: -a.stride))


def _merged(both: Axes, places: Axes, own: Axes) -> list[int]:
    return [*(a.size for a in both), _size(places), *(a.size for a in own)]


def _arrange(array: PyTree, have: Axes, want: Axes) -> PyTree:
    """Sum over the axes that are not wanted and put the others in order."""
    array = jnp.sum(array, [i for i, a in enumerate(have) if a not in want])
    remaining = [a for a in have if a in want]
    return jnp.transpose(array, [remaining.index(a) for a in want])


def join(parts: Sequence[Factors]) -> list[Factors]:
    """Uses of a parameter with the same labels become one with more places."""
    groups: dict[Labels, list[Factors]] = {}
    for part in parts:
        groups.setdefault(part.labels, []).append(part)
    return [_join(group) for group in groups.values()]


def _join(parts: list[Factors]) -> Factors:
    if len(parts) == 1:
        return parts[0]
    labels = parts[0].labels
    axis = len(labels.both)
    x = jnp.concatenate([p.x for p in parts], 0 if labels.is_look_up else axis)
    return Factors(labels, x, jnp.concatenate([p.delta for p in parts], axis))


def _untangle(f: Factors) -> Factors:
    """The same gradient with orthogonal records, where there are two places.

    Two uses that nearly cancel, as in TD errors, then do so in `delta`, not in a
    difference of large squares.
    """
    if f.places != 2 or f.labels.is_look_up:
        return f
    both = _size(f.labels.both)
    turned = jax.vmap(_orthogonal)(
        f.x.reshape(both, 2, -1), f.delta.reshape(both, 2, -1)
    )
    return Factors(
        f.labels, turned[0].reshape(f.x.shape), turned[1].reshape(f.delta.shape)
    )


def _orthogonal(x: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gram-Schmidt on two records."""
    length = square(x[0])
    along = jnp.vdot(x[0], x[1], precision=_EXACT) / jnp.where(length > 0, length, 1)
    return (
        jnp.stack([x[0], x[1] - along * x[0]]),
        jnp.stack([delta[0] + along * delta[1], delta[1]]),
    )


# ------------------------------------------------------------------- which way to go


def is_smaller_whole(sites: Sequence[Site]) -> bool:
    """Whether the gradient itself is the smaller thing to hold.

    With F places its `K * N` numbers take `F * K * N` operations; the factors are
    `F * (K + N)` numbers and their Gram form takes `F**2 * (K + N)` operations: one
    comparison decides both.
    """
    if sum(map(num_places, sites)) == 1:
        return False
    return labels_of(sites[0]).size <= sum(map(numbers, sites))


def numbers(site: Site) -> int:
    """Numbers in the factors of a site."""
    labels = labels_of(site)
    record = 1 if labels.is_look_up else _size(labels.record)
    places = num_places(site) * _size(labels.both)
    return places * (record + _size(labels.output))


def are_comparable(sites: Sequence[Site]) -> bool:
    """Whether inner products between these uses follow from the factors."""
    labels = {labels_of(site) for site in sites}
    axes = {frozenset(s.both + s.record + s.output) for s in labels}
    look_ups = {s.record for s in labels if s.is_look_up}
    if len(labels) == 1:
        return True
    return len(axes) == 1 and (
        not look_ups or (len(look_ups) == 1 and len(next(iter(look_ups))) == 1)
    )


# ------------------------------------------------------------------- what they give


def gradient(f: Factors) -> jax.Array:
    """The gradient itself, flat."""
    return _product(f, ())


def weighted_sum(f: Factors, weights: jax.Array | None, keep: jax.Array) -> jax.Array:
    """`sum_i weights_i * g_i`, flat, from the factors of a batch `[B, ...]`.

    Examples that are not kept count for nothing, whatever they hold.
    """
    # Records of examples that are kept are finite, or their norms were not. To test
    # them, not `keep`, costs no pass: the compiler does it where they are made.
    x = f.x if f.labels.is_look_up else jnp.where(jnp.isfinite(f.x), f.x, 0)
    return _product(Factors(f.labels, x, weighted(f.delta, weights, keep)), (0,))


def weighted(array: jax.Array, weights: jax.Array | None, keep: jax.Array) -> jax.Array:
    """Each example's part times its weight; zero where it is not kept.

    As a matrix, so that the compiler sees that a bias and its layer share the result.
    """
    rows = jnp.where(keep[:, None], array.reshape(array.shape[0], -1), 0)
    if weights is not None:
        rows = rows * weights.astype(array.dtype)[:, None]
    return rows.reshape(array.shape)


def _product(f: Factors, batch: tuple[int, ...]) -> jax.Array:
    """Contract over the places, and over a leading batch axis if there is one."""
    labels, first = f.labels, len(batch)
    if labels.is_look_up:
        return _scatter(f)
    axis = first + len(labels.both)
    contract, both = (*batch, axis), tuple(range(first, axis))
    out = lax.dot_general(f.x, f.delta, ((contract, contract), (both, both)))
    return jnp.transpose(out, labels.order).reshape(-1)


def _scatter(f: Factors) -> jax.Array:
    """Add up the rows of a look-up, over all places of all examples."""
    labels = f.labels
    shape = [a.size for a in labels.output]
    rows = jnp.zeros((_size(labels.record), *shape), f.delta.dtype)
    rows = rows.at[f.x.reshape(-1)].add(f.delta.reshape(-1, *shape))
    sizes = [a.size for a in labels.record + labels.output]
    return jnp.transpose(rows.reshape(sizes), labels.order).reshape(-1)


def square_norm(parts: Sequence[Factors]) -> jax.Array:
    """`|g|^2` of a parameter with these uses."""
    groups = [_untangle(f) for f in join(parts)]
    total = sum(map(_square_norm, groups))
    for a, b in itertools.combinations(groups, 2):
        total += 2 * inner(a, b)
    return jnp.maximum(total, 0)  # Rounding can take it below.


def _square_norm(f: Factors) -> jax.Array:
    both = _size(f.labels.both)
    delta = f.delta.reshape(both, f.places, -1)
    if f.labels.is_look_up:
        return _of_rows(f.x, delta[0])
    x = f.x.reshape(both, f.places, -1)
    of_places = {1: _one_place, 2: _two_places}.get(f.places, _many_places)
    if both == 1:
        return of_places(x[0], delta[0])
    return jnp.sum(jax.vmap(of_places)(x, delta))


def square(array: jax.Array) -> jax.Array:
    """The sum of squares, as a product of vectors: compilers then form no squares."""
    return jnp.vdot(array, array, precision=_EXACT)


def _one_place(x: jax.Array, delta: jax.Array) -> jax.Array:
    return square(x) * square(delta)


def _many_places(x: jax.Array, delta: jax.Array) -> jax.Array:
    return jnp.vdot(_gram(x), _gram(delta), precision=_EXACT)


def _of_rows(rows: jax.Array, delta: jax.Array) -> jax.Array:
    """Of a look-up: places that read the same row add up."""
    if rows.size == 1:
        return square(delta)
    return jnp.sum(jnp.where(rows[:, None] == rows[None, :], _gram(delta), 0))


def _gram(rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows, rows.T, precision=_EXACT)


def _two_places(x: jax.Array, delta: jax.Array) -> jax.Array:
    """Of two places with orthogonal records."""
    return square(x[0]) * square(delta[0]) + square(x[1]) * square(delta[1])


def inner(a: Factors, b: Factors) -> jax.Array:
    """`<g_a, g_b>` of two uses of the same parameter, or of two examples."""
    left, right = _operands(a, "a"), _operands(b, "b")
    if a.labels.is_look_up and b.labels.is_look_up:
        same = (a.x[:, None] == b.x[None, :]).astype(a.delta.dtype)
        pair = (same, (_place("a"), _place("b")))
        return _einsum([pair, left[-1], right[-1]])
    if a.labels.is_look_up:
        return _einsum([left[-1], *(_look_up(a, "a", o) for o in right)])
    if b.labels.is_look_up:
        return _einsum([right[-1], *(_look_up(b, "b", o) for o in left)])
    return _einsum([*left, *right])


def inner_all(a: Sequence[Factors], b: Sequence[Factors]) -> jax.Array:
    """`<g_a, g_b>` of all uses of a parameter in two examples."""
    left, right = ([_untangle(f) for f in join(parts)] for parts in (a, b))
    pairs = itertools.product(left, right)
    return functools.reduce(jnp.add, itertools.starmap(inner, pairs))


_Operand = tuple[jax.Array, Axes]


def _place(name: str) -> Axis:
    return Axis(0, 0, name)


def _operands(f: Factors, name: str) -> list[_Operand]:
    labels, place = f.labels, _place(name)
    delta = (f.delta, (*labels.both, place, *labels.output))
    if labels.is_look_up:
        return [delta]
    return [(f.x, (*labels.both, place, *labels.record)), delta]


def _look_up(f: Factors, name: str, operand: _Operand) -> _Operand:
    """Take the rows that a look-up reads, instead of a product with one-hot rows."""
    array, axes = operand
    (row,) = f.labels.record
    if row not in axes:
        return operand
    at = axes.index(row)
    taken = jnp.take(array, f.x, axis=at)
    return taken, (*axes[:at], _place(name), *axes[at + 1 :])


def _einsum(operands: list[_Operand], out: Axes = ()) -> jax.Array:
    numbers: dict[Axis, int] = {}
    arguments: list[Any] = []
    for array, axes in operands:
        arguments += [array, [numbers.setdefault(a, len(numbers)) for a in axes]]
    out_numbers = [numbers[a] for a in out]
    return jnp.einsum(*arguments, out_numbers, optimize="optimal", precision=_EXACT)


def along(f: Factors, direction: jax.Array) -> jax.Array:
    """`<g, direction>` for an array like the parameter, without forming g."""
    labels = f.labels
    axes = labels.both + labels.record + labels.output
    sizes = [axes[a].size for a in labels.order]
    placed = jnp.transpose(
        direction.reshape(sizes), [labels.order.index(a) for a in range(len(axes))]
    )
    if labels.is_look_up:
        rows = placed.reshape(_size(labels.record), *placed.shape[len(labels.record) :])
        return jnp.sum(rows[f.x] * f.delta)
    return _einsum([*_operands(f, "a"), (placed, axes)])
