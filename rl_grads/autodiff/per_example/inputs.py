"""From a loss and a batch, as a user gives them, to a jaxpr and flat arrays."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads.typing import LossFunction, Params, PyTree

InAxes = int | None | Sequence[Any]


class Inputs(NamedTuple):
    """A loss of one example and a batch.

    Attributes:
        jaxpr: The loss of ONE example; parameters come first, then the arguments.
        values: What the jaxpr takes, with the batch axes.
        axes: The batch axis of each value, or None.
        params: Shape and type of each parameter.
        size: Number of examples.
        unflatten_params: Makes a tree like the parameters from a list.
        unflatten_aux: Makes what the loss returned besides from a list.
        names: Names of the parameters.
        varying: Mesh axes of an enclosing `shard_map` along which the batch differs.
    """

    jaxpr: Any
    values: list[Any]
    axes: list[int | None]
    params: list[jax.ShapeDtypeStruct]
    size: int
    unflatten_params: Callable[[Sequence[Any]], Any]
    unflatten_aux: Callable[[Sequence[Any]], Any]
    names: list[str]
    varying: frozenset[str]


class _Unbatched:
    """Stands for None in trees, where None would be an empty tree."""


def read(
    loss_fn: LossFunction,
    params: Params,
    args: tuple[PyTree, ...],
    in_axes: InAxes,
    has_aux: bool,
) -> Inputs:
    """Trace the loss for one example and lay out its inputs.

    Args:
        loss_fn: `loss_fn(params, *args)` of one example.
        params: A tree of floating-point arrays.
        args: The other arguments, with batch axes.
        in_axes: As `jax.vmap` takes it; None: all arguments but `params` at axis 0.
        has_aux: Whether `loss_fn` returns `(loss, aux)`.

    Raises:
        TypeError: A parameter is not of a floating-point type, or the loss no scalar
            of one.
        ValueError: Batch axes are of unequal length, or `in_axes` does not fit.
    """
    count = len(jax.tree.leaves(params))
    given, tree = _arguments((params, *args), in_axes, count)
    size = _batch_size([a for a in given if a.axis is not None])
    varying = frozenset().union(*(varying_axes(a.value) for a in given if a.traced))
    traced = [a._replace(value=vary(a.value, varying)) for a in given if a.traced]
    avals = [_of_one(a) for a in traced]
    _check_params(traced[:count], avals[:count])

    def loss(*traced: PyTree) -> PyTree:
        ours = iter(traced)
        values = [next(ours) if a.traced else a.value for a in given]
        return loss_fn(*jax.tree.unflatten(tree, values))

    jaxpr, out_tree = _trace(loss, avals, has_aux)
    hidden = jaxpr.outvars[0].aval.manual_axis_type.varying - varying
    if hidden:
        raise ValueError(
            f"loss_fn: holds an array that differs along the mesh axes {set(hidden)}; "
            "expected it as an argument"
        )
    return Inputs(
        jaxpr=jaxpr,
        values=[a.value for a in traced],
        axes=[a.axis for a in traced],
        params=avals[:count],
        size=size,
        unflatten_params=jax.tree.structure(params).unflatten,
        unflatten_aux=lambda aux: jax.tree.unflatten(out_tree, aux),
        names=[a.name for a in traced[:count]],
        varying=varying,
    )


class _Argument(NamedTuple):
    """A leaf of the arguments; what is not traced is passed on as it is."""

    name: str
    value: Any
    axis: int | None
    traced: bool


def _arguments(
    whole: tuple[PyTree, ...], in_axes: InAxes, count: int
) -> tuple[list[_Argument], PyTree]:
    """The leaves of the arguments, the first `count` of them parameters."""
    flat, tree = jax.tree_util.tree_flatten_with_path(whole)
    axes = _flat_axes(in_axes, whole)
    arrays = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
    arguments = []
    for i, ((path, value), axis) in enumerate(zip(flat, axes, strict=True)):
        traced = i < count or axis is not None or isinstance(value, arrays)
        arguments.append(_Argument(_name(path), value, axis, traced))
    return arguments, tree


def varying_axes(value: PyTree) -> frozenset[str]:
    """Mesh axes of an enclosing `shard_map` along which a value differs."""
    kind = _aval(value).manual_axis_type
    return frozenset() if kind is None else kind.varying


def _aval(value: PyTree) -> PyTree:
    return value if isinstance(value, jax.ShapeDtypeStruct) else jax.typeof(value)


def vary(value: PyTree, axes: frozenset[str]) -> PyTree:
    """Mark a value as different along mesh axes.

    The derivative in a value that does not differ is summed over the devices, so
    without this an example's gradient would be mixed with those of other devices.
    """
    missing = tuple(sorted(axes - varying_axes(value)))
    if not missing:
        return value
    return jax.lax.pcast(jnp.asarray(value), missing, to="varying")


def _name(path: tuple[PyTree, ...]) -> str:
    """`params['w']`, or `batch[0].reward` for an entry of the first other argument."""
    index, rest = path[0].idx, jax.tree_util.keystr(path[1:])
    return ("params" if index == 0 else f"batch[{index - 1}]") + rest


def _flat_axes(in_axes: InAxes, whole: tuple[PyTree, ...]) -> list[int | None]:
    """One axis per leaf; `in_axes` is a prefix of the tree of arguments."""
    if in_axes is None:
        in_axes = (None, *(0,) * (len(whole) - 1))
    if not isinstance(in_axes, int) and len(in_axes) != len(whole):
        raise ValueError(
            f"in_axes={in_axes}: expected {len(whole)} entries, one for params and one "
            "for each other argument"
        )
    given = in_axes if isinstance(in_axes, int) else tuple(in_axes)
    marked = jax.tree.map(
        lambda a: _Unbatched if a is None else a, given, is_leaf=lambda a: a is None
    )
    try:
        full = jax.tree.broadcast(marked, whole)
    except ValueError as error:
        raise ValueError(
            f"in_axes={in_axes}: expected a prefix of the arguments' tree: {error}"
        ) from None
    return [None if a is _Unbatched else a for a in jax.tree.leaves(full)]


def _batch_size(batched: list[_Argument]) -> int:
    lengths = {a.name: _length(a) for a in batched}
    if not lengths:
        raise ValueError("in_axes: expected at least one batched array, got none")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"batches of unequal length: {shown}")
    if 0 in lengths.values():
        raise ValueError(f"{next(iter(lengths))}: expected at least one example")
    return next(iter(lengths.values()))


def _length(argument: _Argument) -> int:
    name, value, axis, _ = argument
    shape = getattr(value, "shape", ())
    assert axis is not None
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"{name}: expected an array with a batch axis {axis}, got shape {shape}"
        )
    return shape[axis]


def _of_one(argument: _Argument) -> PyTree:
    """Shape and type of one example's part of a value."""
    aval, axis = _aval(argument.value), argument.axis
    if axis is None:
        return aval
    if varying_axes(argument.value):  # Only a trace keeps what it differs along.
        first = jax.make_jaxpr(lambda x: jax.lax.index_in_dim(x, 0, axis, False))
        return first(aval).outvars[0].aval
    shape = list(aval.shape)
    shape.pop(axis)
    return jax.ShapeDtypeStruct(shape, aval.dtype, weak_type=aval.weak_type)


def _check_params(params: list[_Argument], avals: Sequence[PyTree]) -> None:
    for param, aval in zip(params, avals, strict=True):
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            raise TypeError(
                f"{param.name}: expected a floating-point parameter, got {aval.dtype}"
            )


def _trace(
    loss: LossFunction, avals: Sequence[PyTree], has_aux: bool
) -> tuple[PyTree, PyTree]:
    """The jaxpr of one example's loss, and the tree of its second output."""

    def flat(*arguments: PyTree) -> tuple[PyTree, PyTree]:
        out = loss(*arguments)
        if not has_aux:
            return out, ()
        if not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(
                f"loss_fn: expected (loss, aux) with has_aux=True, got {type(out)}"
            )
        return out

    jaxpr, shapes = jax.make_jaxpr(flat, return_shape=True)(*avals)
    value = shapes[0]
    if not _is_scalar(value):
        got = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", value)
        raise TypeError(
            f"loss_fn: expected a floating-point scalar for one example, got {got}"
        )
    return jaxpr, jax.tree.structure(shapes[1])


def _is_scalar(value: PyTree) -> bool:
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape:
        return False
    return bool(jnp.issubdtype(value.dtype, jnp.floating))
