"""The function that `check_rule` looks at, with its arguments sorted and named."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rl_grads.typing import PyTree

_ARRAYS = (np.ndarray, np.generic, jax.Array)

Function = Callable[..., Any]


class Subject(NamedTuple):
    """The function, and the point where it is looked at.

    Attributes:
        fun: `fun(leaves, fixed)`: the floating leaves of the output, from the floating
            leaves of the arguments and from `fixed`.
        leaves: The floating leaves of the arguments, in float64.
        fixed: Integer and boolean arrays among the arguments.
        vectors: The same as a function of one vector.
        inputs: Where each floating leaf stands in the arguments, and its shape.
        outputs: The same of the output.
        tolerance: Largest relative difference.
        seed: Of random directions.
    """

    fun: Callable[..., tuple[jax.Array, ...]]
    leaves: tuple[np.ndarray, ...]
    fixed: tuple[jax.Array, ...]
    vectors: "Vectors"
    inputs: "tuple[Leaf, ...]"
    outputs: "tuple[Leaf, ...]"
    tolerance: float
    seed: int


class Leaf(NamedTuple):
    """Where a leaf stands, and its shape."""

    name: str
    shape: tuple[int, ...]


def subject(fun: Function, args: tuple, tolerance: float, seed: int) -> Subject:
    """Sort the leaves of the arguments; only floating ones are differentiated.

    Raises:
        TypeError: No leaf of the arguments or of the output is floating, or one of
            them is complex.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(args)
    given = [leaf for _, leaf in paths]
    kinds = [_kind(leaf) for leaf in given]

    def call(leaves: PyTree, fixed: PyTree) -> PyTree:
        new = {"floating": iter(leaves), "fixed": iter(fixed), "static": iter(())}
        merged = [next(new[k], x) for k, x in zip(kinds, given, strict=True)]
        return fun(*jax.tree.unflatten(structure, merged))

    def floating(leaves: PyTree, fixed: PyTree) -> tuple[jax.Array, ...]:
        return tuple(leaf for _, leaf in _floating_paths(call(leaves, fixed)))

    leaves = tuple(np.asarray(x, np.float64) for x in _of("floating", kinds, given))
    fixed = tuple(jnp.asarray(x) for x in _of("fixed", kinds, given))
    inputs = [_leaf("args", path, leaf) for path, leaf in paths]
    out = _floating_paths(call(tuple(map(jnp.asarray, leaves)), fixed))
    if not out or not any(leaf.size for leaf in leaves):
        where = "output of fun" if leaves else "args"
        raise TypeError(f"{where}: expected a leaf of floating dtype")
    return Subject(
        fun=floating,
        leaves=leaves,
        fixed=fixed,
        vectors=vectors(floating, leaves, fixed),
        inputs=tuple(_of("floating", kinds, inputs)),
        outputs=tuple(_leaf("output", path, leaf) for path, leaf in out),
        tolerance=tolerance,
        seed=seed,
    )


def _kind(leaf: PyTree) -> str:
    """`floating`, `fixed` (an array without derivatives) or `static`."""
    if isinstance(leaf, bool | int) or not isinstance(leaf, (float, complex, *_ARRAYS)):
        return "static"
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"args: expected real numbers, got {dtype}")
    return "floating" if jnp.issubdtype(dtype, jnp.floating) else "fixed"


def _of(kind: str, kinds: list[str], values: list[PyTree]) -> list[PyTree]:
    return [v for k, v in zip(kinds, values, strict=True) if k == kind]


def _leaf(root: str, path: PyTree, leaf: PyTree) -> Leaf:
    return Leaf(root + jax.tree_util.keystr(path), np.shape(leaf))


def _floating_paths(tree: PyTree) -> list[tuple[PyTree, jax.Array]]:
    return [
        (path, jnp.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if _kind(leaf) == "floating"
    ]


# ------------------------------------------------------------ as a function of vectors


class Vectors(NamedTuple):
    """The function of all floating leaves in one vector, and what is made of it.

    Attributes:
        fun: `fun(x)`, from `[N]` to `[M]`.
        x: The point.
        dtype: Dtype of the output.
        size: M.
        call: `fun`, compiled.
        pull: `pull(x, c)`, by reverse mode `J' c`, compiled.
        push: `push(x, t)`, by forward mode the value and `J t`, compiled.
    """

    fun: Function
    x: np.ndarray
    dtype: Any
    size: int
    call: Function
    pull: Function
    push: Function


def vectors(fun: Function, leaves: PyTree, fixed: PyTree) -> Vectors:
    """The record for `fun(leaves, fixed)` at some leaves, in their dtype."""
    x, unravel = ravel_pytree(list(map(jnp.asarray, leaves)))

    def flat(x: PyTree) -> jax.Array:
        return ravel_pytree(fun(unravel(x), fixed))[0]

    out = jax.eval_shape(flat, x)
    return Vectors(
        fun=flat,
        x=np.asarray(x),
        dtype=out.dtype,
        size=out.size,
        call=jax.jit(flat),
        pull=jax.jit(lambda x, c: pull_back(flat, x, c)),
        push=jax.jit(lambda x, t: jax.jvp(flat, (x,), (t,))),
    )


def pull_back(fun: Function, x: PyTree, cotangent: PyTree) -> jax.Array:
    """`J' c`, by reverse mode."""
    return jax.vjp(fun, x)[1](cotangent)[0]


# ------------------------------------------------------------------------------- places


def size(leaf: Leaf) -> int:
    """Elements of a leaf."""
    return int(np.prod(leaf.shape, dtype=int))


def entry(leaves: tuple[Leaf, ...], index: int) -> str:
    """The place of one number of a vector: `args[0]['w'][2, 1]`."""
    for leaf in leaves:
        if index < size(leaf):
            inner = [int(i) for i in np.unravel_index(index, leaf.shape)]
            return leaf.name + (str(inner) if inner else "")
        index -= size(leaf)
    raise IndexError(index)
