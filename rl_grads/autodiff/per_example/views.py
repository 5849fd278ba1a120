"""A parameter seen through operations that only move its entries.

Every axis of such a view is made of strided axes of the flattened parameter, so
transposes, reshapes and broadcasts are bookkeeping.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from rl_grads.typing import Params


class Axis(NamedTuple):
    """A label of an array's axis.

    Attributes:
        size: Its length.
        stride: Step in the flattened parameter; 0 for an axis that the parameter does
            not have, over which its gradient is summed.
        name: Tells the axes that are summed over apart.
    """

    size: int
    stride: int = 0
    name: Hashable = None


Axes = tuple[Axis, ...]


class View(NamedTuple):
    """A parameter as it stands somewhere in a jaxpr.

    Attributes:
        leaf: Which parameter.
        axes: For each axis of the array its labels, major first; none for an axis of
            length one or one that repeats the parameter.
        shape: Shape of the array.
        outer: The same for the axes of time of the enclosing scans.
    """

    leaf: int
    axes: tuple[Axes, ...]
    shape: tuple[int, ...]
    outer: tuple[Axes, ...] = ()

    def labels(self, axis: int) -> Axes:
        """The labels of an axis; a repeated axis is one that is summed over."""
        repeated = not self.axes[axis] and self.shape[axis] > 1
        return (
            (Axis(self.shape[axis], 0, ("w", axis)),) if repeated else self.axes[axis]
        )

    def pick(self, axes: Sequence[int]) -> "View":
        """The axes in a new order, some left out."""
        return self._replace(
            axes=tuple(self.axes[a] for a in axes),
            shape=tuple(self.shape[a] for a in axes),
        )

    def reshape(self, shape: Sequence[int]) -> "View | None":
        """The view in another shape; None where axes would be cut unevenly."""
        if any(not a and n > 1 for a, n in zip(self.axes, self.shape, strict=True)):
            return None
        rest: Axes | None = _merge(tuple(a for axes in self.axes for a in axes))
        parts = []
        for size in shape:
            taken, rest = _take(rest, size)
            if rest is None:
                return None
            parts.append(_merge(taken))
        return self._replace(axes=tuple(parts), shape=tuple(shape))

    def broadcast(self, shape: Sequence[int], places: Sequence[int]) -> "View":
        """`lax.broadcast_in_dim`: axis i of the view becomes axis `places[i]`."""
        axes: list[Axes] = [()] * len(shape)
        for own, place in enumerate(places):
            axes[place] = self.axes[own]
        return self._replace(axes=tuple(axes), shape=tuple(shape))


def whole(leaf: int, shape: Sequence[int]) -> View:
    """The view of a parameter as it is."""
    axes, stride = [], 1
    for size in reversed(shape):
        axes.append((Axis(size, stride),) if size > 1 else ())
        stride *= size
    return View(leaf, tuple(reversed(axes)), tuple(shape))


def _take(axes: Axes, size: int) -> tuple[Axes, Axes | None]:
    """Split axes of total length `size` off the front; no rest if that is uneven."""
    if size == 1:
        return (), axes
    if not axes:
        return (), None
    head, *tail = axes
    if size % head.size == 0:
        taken, rest = _take(tuple(tail), size // head.size)
        return (head, *taken), rest
    if head.size % size:
        return (), None
    inner = Axis(head.size // size, head.stride)
    return (Axis(size, head.stride * inner.size),), (inner, *tail)


def _merge(axes: Axes) -> Axes:
    """Neighbours that are contiguous in the parameter become one axis."""
    merged: list[Axis] = []
    for axis in axes:
        if merged and merged[-1].stride == axis.stride * axis.size:
            axis = Axis(merged.pop().size * axis.size, axis.stride)
        merged.append(axis)
    return tuple(merged)


_SAME = ("copy", "copy_p", "sharding_constraint", "name")


def _is_real(params: dict[str, Params]) -> bool:
    """Whether a cast leads to real numbers."""
    return jnp.issubdtype(params["new_dtype"], jnp.floating)


def moved(eqn: JaxprEqn, view: View) -> View | None:
    """The view after an operation that only moves entries; None for any other."""
    name, params = eqn.primitive.name, eqn.params
    if name in _SAME or (name == "convert_element_type" and _is_real(params)):
        return view
    if name == "transpose":
        return view.pick(params["permutation"])
    if name == "squeeze":
        gone = params["dimensions"]
        return view.pick([a for a in range(len(view.shape)) if a not in gone])
    if name == "broadcast_in_dim":
        return view.broadcast(params["shape"], params["broadcast_dimensions"])
    if name == "reshape" and params["dimensions"] is None:
        return view.reshape(params["new_sizes"])
    return None
