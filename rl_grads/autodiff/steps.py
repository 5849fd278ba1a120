"""What one step of a long unrolled computation may need of its derivative.

Both functions work where something inside has a backward rule of its own.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from rl_grads.autodiff.closed import close, is_float
from rl_grads.typing import PyTree, State


def skip_nonfinite(
    step: Callable[..., tuple[PyTree, PyTree]],
    watch: Callable[[PyTree], PyTree] = lambda state: state,
) -> Callable[..., tuple[PyTree, tuple[PyTree, jax.Array]]]:
    """A step that is not made where its result is not finite.

    `where(finite, new, old)` alone makes derivatives nan, because a zero cotangent
    times an infinite slope is nan. Here the backward pass selects as well, after the
    step's own: a skipped step is the identity in both directions.

    Args:
        step: `step(state, *args) -> (state, aux)`, the state of the same structure.
        watch: The part of a new state that must be finite.

    Returns:
        `guarded(state, *args) -> (state, (aux, taken))`; `taken` is a scalar bool.

    Example:
        >>> root = skip_nonfinite(lambda x, y: (x + jnp.sqrt(y), None))
        >>> jax.grad(lambda y: root(1.0, y)[0])(4.0).item()
        0.25
        >>> jax.grad(lambda y: root(1.0, y)[0])(-4.0).item()
        0.0
    """

    def guarded(state: State, *args: PyTree) -> tuple[PyTree, tuple[PyTree, jax.Array]]:
        traced = close(step, (state, *args), also=(0,))
        count = len(jax.tree.leaves(state))
        before = [p for p in traced.places[:count] if p is not None]

        def attempt(inputs: Sequence[jax.Array]) -> tuple[PyTree, jax.Array]:
            new, aux = traced(inputs)
            return (jax.tree.leaves(new), aux), _all_finite(watch(new))

        (leaves, aux), taken = _skipping(attempt, before)(list(traced.inputs))
        new = jax.tree.unflatten(jax.tree.structure(state), leaves)
        return new, (aux, taken)

    return guarded


def _skipping(
    attempt: Callable[[Sequence[jax.Array]], tuple[PyTree, jax.Array]],
    before: Sequence[int],
) -> Callable[[Sequence[jax.Array]], tuple[PyTree, jax.Array]]:
    """`attempt`, or the inputs at the places `before` where it is not finite."""

    def chosen(
        inputs: Sequence[jax.Array], attempted: PyTree, taken: jax.Array
    ) -> PyTree:
        new, aux = attempted
        old = [inputs[p] for p in before]
        return (_select(taken, new, old), aux), taken

    @jax.custom_vjp
    def rule(inputs: Sequence[jax.Array]) -> tuple[PyTree, jax.Array]:
        return chosen(inputs, *attempt(inputs))

    def forward(inputs: Sequence[jax.Array]) -> PyTree:
        attempted, pull_back, taken = jax.vjp(attempt, inputs, has_aux=True)
        return chosen(inputs, attempted, taken), (pull_back, taken)

    def backward(residuals: PyTree, cotangent: PyTree) -> PyTree:
        pull_back, taken = residuals
        outer, _ = cotangent
        (inner,) = pull_back(jax.tree.map(lambda ct: _keep(taken, ct), outer))
        found = [_keep(taken, ct) for ct in inner]
        for place, ct in zip(before, outer[0], strict=True):
            if _has_derivative(ct):
                found[place] += _keep(~taken, ct)
        return (found,)

    rule.defvjp(forward, backward)
    return rule


def _all_finite(tree: PyTree) -> jax.Array:
    floats = [x for x in jax.tree.leaves(tree) if is_float(x)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))


def _select(
    which: jax.Array, new: Sequence[jax.Array], old: Sequence[jax.Array]
) -> list[jax.Array]:
    return [jnp.where(which, n, o) for n, o in zip(new, old, strict=True)]


def _has_derivative(cotangent: PyTree) -> bool:
    return cotangent.dtype != jax.dtypes.float0


def _keep(which: jax.Array, cotangent: PyTree) -> PyTree:
    """The cotangent, or zeros."""
    if not _has_derivative(cotangent):
        return cotangent
    return jnp.where(which, cotangent, 0)


def linearize_through_reverse(
    fun: Callable[..., tuple[PyTree, PyTree]], *primals: PyTree
) -> tuple[PyTree, Callable[..., PyTree], PyTree]:
    """`jax.linearize` where something inside has only a backward rule.

    A pull-back is linear, and its transpose is the push-forward: two reverse passes
    make a forward one.

    Args:
        fun: `fun(*primals) -> (out, aux)`; primals and out are pytrees of
            floating-point arrays.
        primals: Where to differentiate.

    Returns:
        out, `push_forward(*tangents)`, and aux.

    Example:
        >>> from rl_grads.autodiff.clip import clip_gradient
        >>> square = lambda x: (clip_gradient(x, max_abs=2.0) ** 2, None)
        >>> out, push_forward, _ = linearize_through_reverse(square, 0.5)
        >>> float(out), float(push_forward(3.0))
        (0.25, 3.0)
    """
    out, pull_back, aux = jax.vjp(fun, *primals, has_aux=True)
    _, push = jax.vjp(pull_back, jax.tree.map(jnp.zeros_like, out))
    return out, lambda *tangents: push(tangents)[0], aux
