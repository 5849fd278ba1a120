"""Refusals of arguments: each names the argument, what came and what was expected."""

import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rl_grads.typing import Function, PyTree


def one_of(name: str, value: PyTree, known: Collection[str]) -> None:
    """Refuse a value that is not among the known ones.

    Raises:
        ValueError: `mode='both': expected one of 'forward', 'reverse'`.
    """
    if value not in known:
        raise ValueError(
            f"{name}={value!r}: expected one of {', '.join(map(repr, known))}"
        )


def scalar(name: str, value: PyTree) -> None:
    """Refuse anything but a scalar.

    Raises:
        ValueError: `x: expected a scalar, got the shape (2,)`.
    """
    if jnp.shape(value) != ():
        raise ValueError(f"{name}: expected a scalar, got the shape {jnp.shape(value)}")


def floating(name: str, tree: PyTree) -> None:
    """Refuse a pytree with a leaf that is no real floating-point number or array.

    Raises:
        TypeError: `x['a']: expected a floating dtype, got int32`.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not _is(leaf, jnp.floating):
            place = name + jax.tree_util.keystr(path)
            raise TypeError(f"{place}: expected a floating dtype, got {_dtype(leaf)}")


def floating_array(name: str, value: PyTree) -> None:
    """Refuse anything but one array of real floating-point numbers.

    Raises:
        TypeError: `x: expected an array, got a dict`, or as `floating`.
    """
    if not jax.tree_util.all_leaves([value]):
        raise TypeError(f"{name}: expected an array, got a {type(value).__name__}")
    floating(name, value)


def number(name: str, value: PyTree) -> None:
    """Refuse anything but one real number: a Python, NumPy or JAX scalar.

    Raises:
        TypeError: `max_abs: expected a real number, got bool`.
        ValueError: `max_abs: expected a scalar, got the shape (2,)`.
    """
    if not _is(value, jnp.floating, jnp.integer):
        raise TypeError(f"{name}: expected a real number, got {_dtype(value)}")
    scalar(name, value)


def is_known(value: PyTree) -> bool:
    """Whether a number can be looked at, because no transformation traces it."""
    return not isinstance(value, Tracer)


def _is(value: PyTree, *kinds: PyTree) -> bool:
    """Whether a value is an array or number of one of these dtypes."""
    dtype = _dtype(value)
    return not isinstance(dtype, str) and any(jnp.issubdtype(dtype, k) for k in kinds)


def _dtype(value: PyTree) -> PyTree:
    """The dtype that JAX gives a value; the name of its type if JAX refuses it."""
    try:
        return jax.typeof(value).dtype
    except TypeError:
        return type(value).__name__


def like(name: str, tree: PyTree, model: PyTree) -> None:
    """Refuse a pytree that differs from a model in structure, shapes or dtypes.

    Raises:
        ValueError: `tangents: expected {'w': 'float32[3]'}, got {'w': 'float32[4]'}`.
    """
    got, expected = _described(tree), _described(model)
    if got != expected:
        raise ValueError(f"{name}: expected {expected}, got {got}")


def stacked(name: str, tree: PyTree, model: PyTree) -> None:
    """Refuse a pytree that is no stack `[K, ...]` of trees like a model.

    Raises:
        ValueError: `tangents: expected float32[K,3] with one K >= 1, got float32[3]`.
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    got, count = _described(tree), min(sizes, default=())
    if len(sizes) != 1 or count in ((), (0,)) or got != _described(model, count):
        expected = _described(model, ("K",))
        raise ValueError(f"{name}: expected {expected} with one K >= 1, got {got}")


def _described(tree: PyTree, lead: tuple = ()) -> PyTree:
    """A pytree of texts `float32[3,4]`, with `lead` before each shape."""

    def text(leaf: PyTree) -> str:
        shape = ",".join(map(str, (*lead, *jnp.shape(leaf))))
        return f"{_dtype(leaf)}[{shape}]"

    return jax.tree.map(text, tree)


def floating_output(fun: Function) -> Function:
    """The function, refusing outputs without derivatives (TypeError)."""

    @functools.wraps(fun)
    def checked(*args: PyTree) -> PyTree:
        out = fun(*args)
        floating("output of fun", out)
        return out

    return checked


def scalar_output(fun: Function) -> Function:
    """The function, refusing outputs other than one floating-point number."""

    @functools.wraps(fun)
    def checked(*args: PyTree) -> PyTree:
        out = fun(*args)
        if not jax.tree_util.all_leaves([out]):
            kind = type(out).__name__
            raise TypeError(f"output of fun: expected a scalar, got a {kind}")
        scalar("output of fun", out)
        floating("output of fun", out)
        return out

    return checked
