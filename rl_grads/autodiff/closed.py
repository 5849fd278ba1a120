"""A function with every array that it depends on made an explicit input.

Custom derivative rules may not close over traced values. Tracing the function once
turns whatever it closes over into constants of a jaxpr, which can be handed in.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr

from rl_grads.typing import Function, PyTree


class Closed(NamedTuple):
    """A traced function and its inputs.

    Attributes:
        jaxpr: The traced function; its inputs are constants, then leaves.
        inputs: Arrays that the function closes over, then those among its arguments.
        places: For each leaf of the arguments its place among the inputs; None for
            a leaf that is no array, which stays as it is.
        tree: Structure of the output.
    """

    jaxpr: Any
    inputs: tuple[Any, ...]
    places: tuple[int | None, ...]
    tree: Any

    def __call__(self, inputs: Sequence[PyTree]) -> PyTree:
        """The function's value at other inputs of the same shapes."""
        count = len(self.jaxpr.constvars)
        out = eval_jaxpr(self.jaxpr, inputs[:count], *inputs[count:])
        return jax.tree.unflatten(self.tree, out)


def close(fun: Function, args: tuple, also: Sequence[int] = ()) -> Closed:
    """Trace `fun(*args)`.

    Args:
        fun: Any traceable function.
        args: Its arguments. JAX arrays become inputs; anything else is static.
        also: Indices of arguments whose leaves are inputs whatever they are.
    """
    leaves, tree = jax.tree.flatten(args)
    owner = [i for i, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    dynamic = [
        k
        for k, leaf in enumerate(leaves)
        if isinstance(leaf, jax.Array) or owner[k] in also
    ]

    def of_arrays(*arrays: PyTree) -> PyTree:
        given = dict(zip(dynamic, arrays, strict=True))
        full = [given.get(k, leaf) for k, leaf in enumerate(leaves)]
        return fun(*jax.tree.unflatten(tree, full))

    arrays = [_array(leaves[k]) for k in dynamic]
    traced, shape = jax.make_jaxpr(of_arrays, return_shape=True)(*arrays)
    place = {k: len(traced.consts) + n for n, k in enumerate(dynamic)}
    return Closed(
        jaxpr=traced.jaxpr,
        inputs=(*traced.consts, *arrays),
        places=tuple(place.get(k) for k in range(len(leaves))),
        tree=jax.tree.structure(shape),
    )


def _array(value: PyTree) -> jax.Array:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def is_float(array: PyTree) -> bool:
    """Whether an array has derivatives."""
    return jnp.issubdtype(array.dtype, jnp.inexact)


def split_floats(
    tree: PyTree,
) -> tuple[list[jax.Array], Callable[[Sequence[PyTree]], PyTree]]:
    """The floating-point leaves of a pytree, and how to put others in their place.

    Example:
        >>> floats, rebuild = split_floats({"w": jnp.ones(2), "count": jnp.int32(3)})
        >>> rebuild([2 * x for x in floats])["w"].tolist()
        [2.0, 2.0]
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [k for k, leaf in enumerate(leaves) if is_float(_array(leaf))]

    def rebuild(floats: Sequence[PyTree]) -> PyTree:
        out = list(leaves)
        for place, x in zip(places, floats, strict=True):
            out[place] = x
        return jax.tree.unflatten(structure, out)

    return [_array(leaves[k]) for k in places], rebuild
