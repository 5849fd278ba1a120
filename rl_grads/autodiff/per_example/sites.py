"""Where a parameter meets an operation whose gradient factorises.

A site is an equation `y = op(x, w)`, linear in a view `w` of a parameter. One
example's gradient there is a contraction of the record `x` with `delta`, the
derivative of the loss in `y`. Labels say which axes of the two are axes of the
parameter.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from rl_grads.autodiff.per_example import jaxprs
from rl_grads.autodiff.per_example.views import Axes, Axis, View
from rl_grads.typing import PyTree

_Mode = lax.GatherScatterMode
# Patches of one example beyond this many numbers cost more than they save.
MOST_PATCHES = 2**20


class Site(NamedTuple):
    """One use of a parameter.

    Attributes:
        leaf: Which parameter.
        operation: Name of the primitive.
        operand: Position of the parameter among the operands.
        x: Labels of each axis of the record, the axes of scans first.
        delta: Labels of each axis of the output, likewise.
        tap: Shape and type of the output, likewise.
        rows: For a look-up, the labels that its indices run over; else None. Its
            record is the integer index of a row.
        unfold: From what is recorded to the record, where that is far larger: the
            patches of a convolution; else None.
    """

    leaf: int
    operation: str
    operand: int
    x: tuple[Axes, ...]
    delta: tuple[Axes, ...]
    tap: jax.ShapeDtypeStruct
    rows: Axes | None = None
    unfold: Callable[[Any], Any] | None = None


class Refusal(NamedTuple):
    """Why a use is not a site."""

    reason: str


def find(eqn: JaxprEqn, operand: int, view: View) -> Site | Refusal:
    """The site of a parameter that is an operand of an equation."""
    rules: dict[str, Callable[[Any, int, View], Site | Refusal]] = {
        "dot_general": _dot,
        "conv_general_dilated": _convolution,
        "gather": _gather,
        "dynamic_slice": _dynamic_slice,
    }
    name = eqn.primitive.name
    rule = rules.get(name)
    if name.startswith("custom_"):
        return Refusal(f"enters a {name}, which has a derivative rule of its own")
    if rule is None:
        return Refusal(f"meets {name}")
    if any(map(_is_complex, [*eqn.invars, *eqn.outvars])):
        return Refusal("meets complex numbers")
    return rule(eqn, operand, view)


def _is_complex(variable: PyTree) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.complexfloating)


def call(
    eqn: JaxprEqn, operands: list[PyTree], site: Site, tap: PyTree
) -> tuple[PyTree, PyTree]:
    """The output of a site with its tap added, and what it records."""
    if site.operation == "dot_general":
        return _bind(eqn, operands) + tap, operands[1 - site.operand]
    if site.operation == "conv_general_dilated":
        lhs, rhs = operands
        return convolve(eqn, lhs, rhs, tap), lhs
    index, valid = _look_up(eqn, operands)
    return _bind(eqn, operands) + jnp.where(valid, tap, 0), index


def _bind(eqn: JaxprEqn, operands: list[PyTree]) -> PyTree:
    params = eqn.primitive.get_bind_params(eqn.params)
    return eqn.primitive.bind(*operands, **params)


def _site(
    eqn: JaxprEqn,
    operand: int,
    view: View,
    x: tuple[Axes, ...],
    delta: tuple[Axes, ...],
    shape: tuple[int, ...] | None = None,
    rows: Axes | None = None,
) -> Site:
    out = jaxprs.array(eqn.outvars[0])
    times = tuple(math.prod(a.size for a in axes) for axes in view.outer)
    return Site(
        leaf=view.leaf,
        operation=eqn.primitive.name,
        operand=operand,
        x=view.outer + x,
        delta=view.outer + delta,
        tap=jax.ShapeDtypeStruct(times + (shape or out.shape), out.dtype),
        rows=rows,
    )


def _summed(size: int, *name: PyTree) -> Axes:
    return (Axis(size, 0, name),) if size > 1 else ()


# ------------------------------------------------------------------ matrix products


def _dot(eqn: JaxprEqn, operand: int, view: View) -> Site:
    """`lax.dot_general`: output axes are batch, free of the left, free of the right."""
    contract, batch = eqn.params["dimension_numbers"]
    shape = jaxprs.array(eqn.invars[1 - operand]).shape
    pairs = [*zip(*contract, strict=True), *zip(*batch, strict=True)]
    ours = {pair[1 - operand]: view.labels(pair[operand]) for pair in pairs}
    x = tuple(ours.get(a, _summed(n, "x", a)) for a, n in enumerate(shape))
    used = {pair[operand] for pair in pairs}
    free_w = [view.labels(a) for a in range(len(view.shape)) if a not in used]
    free_x = [x[a] for a in range(len(shape)) if a not in ours]
    both = (free_w, free_x) if operand == 0 else (free_x, free_w)
    delta = [*(x[a] for a in batch[1 - operand]), *both[0], *both[1]]
    return _site(eqn, operand, view, x, tuple(delta))


# --------------------------------------------------------------------- convolutions


class _Shapes(NamedTuple):
    """Sizes of a convolution, with its groups made explicit."""

    window: tuple[int, ...]
    channels: int
    groups: int
    filters: int
    out: tuple[int, ...]


def _shapes(eqn: JaxprEqn) -> _Shapes:
    numbers, groups = _numbers(eqn), eqn.params["feature_group_count"]
    kernel, out = jaxprs.array(eqn.invars[1]).shape, jaxprs.array(eqn.outvars[0]).shape
    filters, channels, *window = (kernel[a] for a in numbers.rhs_spec)
    places = tuple(out[a] for a in numbers.out_spec[2:])
    return _Shapes(tuple(window), channels, groups, filters // groups, places)


def _numbers(eqn: JaxprEqn) -> PyTree:
    return eqn.params["dimension_numbers"]


def unfolds(eqn: JaxprEqn) -> bool:
    """Whether a convolution is computed as a matrix product of patches (im2col)."""
    if eqn.params["batch_group_count"] != 1:
        return False
    s = _shapes(eqn)
    size = math.prod(s.window) * s.channels * s.groups * math.prod(s.out)
    batch = jaxprs.array(eqn.invars[0]).shape[_numbers(eqn).lhs_spec[0]]
    return size * batch <= MOST_PATCHES


def _convolution(eqn: JaxprEqn, operand: int, view: View) -> Site | Refusal:
    if operand != 1 or not unfolds(eqn):
        return Refusal("meets a convolution that is not unfolded into patches")
    s, numbers = _shapes(eqn), _numbers(eqn)
    filters, channels, *window = numbers.rhs_spec
    kernel = view.pick([*window, channels, filters]).reshape(
        (*s.window, s.channels, s.groups, s.filters)
    )
    if kernel is None:
        return Refusal("its kernel's groups are cut unevenly")
    labels = [kernel.labels(a) for a in range(len(kernel.shape))]
    taps, (c, g, f) = labels[: len(window)], labels[len(window) :]
    batch = jaxprs.array(eqn.invars[0]).shape[numbers.lhs_spec[0]]
    places = [_summed(n, "place", i) for i, n in enumerate((batch, *s.out))]
    x = (*places, tuple(itertools.chain(*taps)), g, c)
    shape = (batch, *s.out, s.groups, s.filters)
    unfold = functools.partial(_patches, eqn)
    for _ in view.outer:
        unfold = jax.vmap(unfold)
    site = _site(eqn, 1, view, x, (*places, g, f), shape)
    return site._replace(unfold=unfold)


def convolve(eqn: JaxprEqn, lhs: PyTree, rhs: PyTree, tap: PyTree = None) -> PyTree:
    """A convolution by patches; the tap is on `[N, *out, groups, filters]`."""
    s, numbers = _shapes(eqn), _numbers(eqn)
    filters, channels, *window = numbers.rhs_spec
    patches = _patches(eqn, lhs)
    kernel = jnp.transpose(rhs, (*window, channels, filters))
    kernel = kernel.reshape(-1, s.channels, s.groups, s.filters)
    out = _multiply(eqn, patches, kernel)
    out = out if tap is None else out + tap
    out = out.reshape(*out.shape[:-2], -1)
    return jnp.transpose(out, _inverse(_to_last(numbers.out_spec)))


def _multiply(eqn: JaxprEqn, patches: PyTree, kernel: PyTree) -> PyTree:
    """`[..., window, groups, channels]` times a kernel, `[..., groups, filters]`."""
    groups, filters = kernel.shape[2:]
    form = "...wgc,wcgf->...gf"
    if groups == 1:  # Plain matrices are faster than the same with axes of length one.
        form, kernel = "...k,kf->...f", kernel.reshape(-1, filters)
        patches = patches.reshape(*patches.shape[:-3], -1)
    out = jnp.einsum(
        form,
        patches,
        kernel,
        precision=eqn.params["precision"],
        preferred_element_type=jaxprs.array(eqn.outvars[0]).dtype,
    )
    return out.reshape(
        *out.shape[: patches.ndim - (3 if groups > 1 else 1)], groups, filters
    )


def _to_last(spec: tuple[int, ...]) -> tuple[int, ...]:
    """The order of axes batch, places, channels."""
    batch, channels, *places = spec
    return (batch, *places, channels)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(a) for a in range(len(order)))


def _patches(eqn: JaxprEqn, lhs: PyTree) -> PyTree:
    """What a window sees, `[N, *out, window, groups, channels]`, axis by axis."""
    p, s = eqn.params, _shapes(eqn)
    x = jnp.transpose(lhs, _to_last(_numbers(eqn).lhs_spec))
    edges = zip(p["padding"], p["lhs_dilation"], strict=True)
    holes = [(low, high, step - 1) for (low, high), step in edges]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *holes, (0, 0, 0)])
    for axis in reversed(range(len(s.window))):
        stride, step = p["window_strides"][axis], p["rhs_dilation"][axis]
        last = (s.out[axis] - 1) * stride + 1
        shifted = [
            lax.slice_in_dim(x, i * step, i * step + last, stride, axis + 1)
            for i in range(s.window[axis])
        ]
        # Left to itself XLA fuses the copies with what follows, at many times the cost.
        x = lax.optimization_barrier(jnp.concatenate(shifted, -1))
    return x.reshape(*x.shape[:-1], math.prod(s.window), s.groups, s.channels)


# ------------------------------------------------------------------------- look-ups


def _gather(eqn: JaxprEqn, operand: int, view: View) -> Site | Refusal:
    """Rows by their index: whole slices at integer places of some axes."""
    numbers = eqn.params["dimension_numbers"]
    looked = tuple(numbers.start_index_map)
    rest = [a for a in range(len(view.shape)) if a not in looked]
    whole = all(eqn.params["slice_sizes"][a] == view.shape[a] for a in rest)
    if (
        operand != 0
        or numbers.operand_batching_dims
        or tuple(sorted(looked)) != tuple(numbers.collapsed_slice_dims)
        or not whole
    ):
        return Refusal("meets a gather that is no look-up of rows")
    index = jaxprs.array(eqn.invars[1]).shape[:-1]
    x = tuple(_summed(n, "x", a) for a, n in enumerate(index))
    at = {a: view.labels(w) for a, w in zip(numbers.offset_dims, rest, strict=True)}
    places = iter(x)
    ndim = jaxprs.array(eqn.outvars[0]).ndim
    delta = tuple(at[a] if a in at else next(places) for a in range(ndim))
    return _rows(eqn, view, x, delta, looked)


def _dynamic_slice(eqn: JaxprEqn, operand: int, view: View) -> Site | Refusal:
    """One row by its index: axes are kept whole or cut to length one."""
    sizes = tuple(eqn.params["slice_sizes"])
    looked = tuple(a for a, n in enumerate(view.shape) if sizes[a] != n)
    if operand != 0 or any(sizes[a] != 1 for a in looked):
        return Refusal("meets a dynamic slice that is no single row")
    delta = tuple(() if a in looked else view.labels(a) for a in range(len(view.shape)))
    return _rows(eqn, view, (), delta, looked)


def _rows(
    eqn: JaxprEqn,
    view: View,
    x: tuple[Axes, ...],
    delta: tuple[Axes, ...],
    looked: tuple[int, ...],
) -> Site | Refusal:
    rows = tuple(itertools.chain(*(view.axes[a] for a in looked)))
    lengths = math.prod(a.size for a in rows)
    in_time = [a for axes in view.outer for a in axes if a.stride]
    if lengths != math.prod(view.shape[a] for a in looked) or in_time:
        return Refusal("is looked up in repeated axes or layer by layer")
    return _site(eqn, 0, view, x, delta, rows=rows)


def _look_up(eqn: JaxprEqn, operands: list[PyTree]) -> tuple[PyTree, PyTree]:
    """The flat index of the rows, and which entries of the output are rows."""
    table, *where = operands
    if eqn.primitive.name == "dynamic_slice":
        sizes = eqn.params["slice_sizes"]
        looked = [a for a, n in enumerate(table.shape) if sizes[a] != n]
        return _flat([where[a] for a in looked], [table.shape[a] for a in looked]), True
    numbers = eqn.params["dimension_numbers"]
    looked = numbers.start_index_map
    parts = [where[0][..., i] for i in range(len(looked))]
    lengths = [table.shape[a] for a in looked]
    if eqn.params["mode"] == _Mode.CLIP:
        return _flat(parts, lengths), True
    # Forward an index that was promised to be inside is clamped if it is not; the
    # derivative drops it, in every mode but CLIP.
    inside = [(p >= 0) & (p < n) for p, n in zip(parts, lengths, strict=True)]
    valid = jnp.stack(inside).all(0)
    return _flat(parts, lengths), jnp.expand_dims(valid, numbers.offset_dims)


def _flat(parts: list[PyTree], lengths: list[int]) -> PyTree:
    """Row-major index of clamped indices."""
    flat = jnp.zeros((), jnp.int32)
    for part, length in zip(parts, lengths, strict=True):
        flat = flat * length + jnp.clip(part, 0, length - 1).astype(jnp.int32)
    return flat
