"""Gradients, norms, weighted and clipped sums of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rl_grads.autodiff.per_example import batch, inputs
from rl_grads.autodiff.per_example.batch import Gradients
from rl_grads.autodiff.per_example.inputs import InAxes
from rl_grads.typing import Function, LossFunction, Params, PyTree


def per_example_gradients(
    loss_fn: LossFunction, in_axes: InAxes = None, has_aux: bool = False
) -> Function:
    """Every example's gradient, as `vmap(grad(loss_fn))` gives them.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        in_axes: As in `jax.vmap`, for `params` and `args`; None: everything but
            `params` is batched at axis 0.
        has_aux: As in `jax.grad`: `loss_fn` returns `(scalar, aux)`.

    Returns:
        `f(params, *batch) -> gradients`, a tree like `params` with leaves `[B, ...]`;
        with `has_aux`, `(gradients, aux)`.

    Raises:
        TypeError, ValueError: See `gradient_with_norms`.

    Example:
        >>> loss = lambda w, x: 0.5 * (w @ x) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> per_example_gradients(loss)(jnp.array([3.0, 1.0]), x).tolist()
        [[3.0, 0.0], [0.0, 4.0]]
    """

    def gradients(params: Params, *args: PyTree) -> PyTree:
        given = inputs.read(loss_fn, params, args, in_axes, has_aux)
        differentiated = batch.differentiate(given, whole=True)
        shape = (given.size,)
        whole = [
            jnp.zeros(shape + like.shape, like.dtype) if leaf is None else leaf
            for leaf, like in zip(
                differentiated.leaves, differentiated.shapes, strict=True
            )
        ]
        return _with_aux(given.unflatten_params(whole), differentiated, has_aux)

    return gradients


def per_example_norms(
    loss_fn: LossFunction, in_axes: InAxes = None, has_aux: bool = False
) -> Function:
    """The L2 norm of every example's gradient, without the gradients.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        in_axes: See `per_example_gradients`.
        has_aux: See `per_example_gradients`.

    Returns:
        `f(params, *batch) -> norms [B]`; with `has_aux`, `(norms, aux)`. That of an
        example whose loss is not finite is nan.

    Raises:
        TypeError, ValueError: See `gradient_with_norms`.

    Example:
        >>> loss = lambda w, x: 0.5 * (w @ x) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> per_example_norms(loss)(jnp.array([3.0, 1.0]), x).tolist()
        [3.0, 4.0]
    """

    def norms(params: Params, *args: PyTree) -> PyTree:
        given = inputs.read(loss_fn, params, args, in_axes, has_aux)
        gradients = batch.differentiate(given)
        return _with_aux(batch.norms(gradients), gradients, has_aux)

    return norms


def gradient_with_norms(
    loss_fn: LossFunction, in_axes: InAxes = None, has_aux: bool = False
) -> Function:
    """A weighted sum of gradients and their norms, by one backward pass.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        in_axes: See `per_example_gradients`; `weights` are not among them.
        has_aux: See `per_example_gradients`.

    Returns:
        `f(params, weights, *batch) -> (sum_i weights_i * g_i, norms)`, where `weights`
        is `[B]` or None for ones, the sum is a tree like `params`, and `norms` `[B]`
        are those of the unweighted gradients. With `has_aux`, `((sum, norms), aux)`.
        An example whose loss or gradient is not finite is left out of the sum; its
        norm is inf or nan, so `jnp.isfinite(norms)` counts the others.

    Raises:
        TypeError: The loss is no floating-point scalar, or a parameter is not of a
            floating-point type.
        ValueError: Batches or `weights` are of unequal length, or a batch is empty.

    Example:
        >>> loss = lambda w, x: 0.5 * (w @ x) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> weights = jnp.array([1.0, 0.5])
        >>> total, norms = gradient_with_norms(loss)(jnp.array([3.0, 1.0]), weights, x)
        >>> total.tolist(), norms.tolist()
        ([3.0, 2.0], [3.0, 4.0])
    """

    def gradient(params: Params, weights: PyTree, *args: PyTree) -> PyTree:
        def weigh(norms: jax.Array) -> jax.Array | None:
            return read_weights(weights, norms.size)

        return reweighted_gradients(loss_fn, weigh, in_axes, has_aux)(params, *args)

    return gradient


def clipped_gradient(
    loss_fn: LossFunction,
    max_norm: jax.Array | float,
    in_axes: InAxes = None,
    has_aux: bool = False,
) -> Function:
    """A weighted sum of gradients, each clipped to a norm, by one backward pass.

    Every example is clipped by itself, before its weight (Abadi et al. 2016, equation
    of algorithm 1, without the noise): `sum_i weights_i * g_i * min(1, C / |g_i|)`.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        max_norm: Largest L2 norm of an example's gradient, >= 0; may be traced, and
            the result differentiated in it. 0 stops all, inf clips nothing.
        in_axes: See `per_example_gradients`; `weights` are not among them.
        has_aux: See `per_example_gradients`.

    Returns:
        `f(params, weights, *batch) -> (sum, norms)` as `gradient_with_norms`; the
        norms are those before the clip.

    Raises:
        TypeError: See `gradient_with_norms`.
        ValueError: `max_norm` is a negative number, or see `gradient_with_norms`.

    Example:
        >>> loss = lambda w, x: 0.5 * (w @ x) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> total, _ = clipped_gradient(loss, 1.0)(jnp.array([3.0, 1.0]), None, x)
        >>> total.tolist()
        [1.0, 1.0]
    """
    if isinstance(max_norm, int | float) and not max_norm >= 0:
        raise ValueError(f"max_norm={max_norm}: expected a number >= 0")

    def gradient(params: Params, weights: PyTree, *args: PyTree) -> PyTree:
        def weigh(norms: jax.Array) -> jax.Array:
            own = read_weights(weights, norms.size)
            factor = clip_factor(norms, max_norm)
            return factor if own is None else own * factor

        return reweighted_gradients(loss_fn, weigh, in_axes, has_aux)(params, *args)

    return gradient


def reweighted_gradients(
    loss_fn: LossFunction,
    weigh: Callable[[jax.Array], PyTree],
    in_axes: InAxes = None,
    has_aux: bool = False,
) -> Function:
    """Sums of gradients with weights that depend on their norms, by one backward pass.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        weigh: From norms `[B]` to weights `[B]`, or to a tree of them for several
            sums. It sees 0 for an example whose loss or gradient is not finite, which
            is left out of all sums. None stands for ones.
        in_axes: See `per_example_gradients`.
        has_aux: See `per_example_gradients`.

    Returns:
        `f(params, *batch) -> (sums, norms)`, where `sums` is `weigh`'s tree with a tree
        like `params` in place of each weight. With `has_aux`, `((sums, norms), aux)`.

    Raises:
        TypeError, ValueError: See `gradient_with_norms`.

    Example:
        >>> loss = lambda w, x: 0.5 * (w @ x) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> normalised = reweighted_gradients(loss, lambda norms: 1 / norms)
        >>> total, _ = normalised(jnp.array([3.0, 1.0]), x)
        >>> total.tolist()
        [1.0, 1.0]
    """

    def gradients(params: Params, *args: PyTree) -> PyTree:
        given = inputs.read(loss_fn, params, args, in_axes, has_aux)
        differentiated = batch.differentiate(given)
        norms = batch.norms(differentiated)
        keep = jnp.isfinite(norms)

        def total(weights: jax.Array | None) -> PyTree:
            safe = None if weights is None else jnp.where(keep, weights, 0)
            return given.unflatten_params(
                batch.weighted_sums(differentiated, safe, keep)
            )

        weights = weigh(jnp.where(keep, norms, 0))
        sums = jax.tree.map(total, weights, is_leaf=lambda w: w is None)
        return _with_aux((sums, norms), differentiated, has_aux)

    return gradients


def clip_factor(norms: jax.Array, max_norm: PyTree) -> jax.Array:
    """`min(1, max_norm / norms)`, with a finite derivative at norms of zero."""
    large = norms > max_norm
    return jnp.where(large, max_norm / jnp.where(large, norms, 1), 1)


def read_weights(weights: PyTree, size: int) -> jax.Array | None:
    """Weights `[B]`, or None for ones."""
    if weights is None:
        return None
    if jnp.shape(weights) != (size,):
        raise ValueError(
            f"weights: expected the shape {(size,)}, one per example, got "
            f"{jnp.shape(weights)}"
        )
    return jnp.asarray(weights)


def _with_aux(out: PyTree, gradients: Gradients, has_aux: bool) -> PyTree:
    return (out, gradients.aux) if has_aux else out
