"""What the gradients of a batch say about each other; only what is asked for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.autodiff.per_example import batch, inputs
from rl_grads.autodiff.per_example.batch import Gradients
from rl_grads.autodiff.per_example.functions import read_weights
from rl_grads.autodiff.per_example.inputs import InAxes
from rl_grads.typing import LossFunction, Params, PyTree


class GradientStatistics(NamedTuple):
    """Statistics of the gradients `g_i` of a batch; None where not asked for.

    Attributes:
        gradient: `sum_i weights_i * g_i`, a tree like the parameters.
        norms: `|g_i|`, `[B]`.
        layer_norms: The same of each parameter by itself, a tree of `[B]`.
        cosines: Cosine between `g_i` and the plain mean gradient, `[B]`; 0 where one
            of them is zero.
        gram: `<g_i, g_j>`, `[B, B]`.
        noise_scale: `tr(covariance) / |true gradient|^2`, both without bias, the
            batch size at which noise and signal are equal (McCandlish et al. 2018,
            "simple noise scale"). Where the estimate of the denominator is not
            positive it is inf.
        num_nonfinite: Examples that were left out of all sums and means.
        aux: What the loss returned besides.
    """

    gradient: Any
    norms: jax.Array
    layer_norms: Any
    cosines: jax.Array | None
    gram: jax.Array | None
    noise_scale: jax.Array | None
    num_nonfinite: jax.Array
    aux: Any


def gradient_statistics(
    loss_fn: LossFunction,
    *,
    layer_norms: bool = False,
    cosines: bool = False,
    gram: bool = False,
    noise_scale: bool = False,
    in_axes: InAxes = None,
    has_aux: bool = False,
) -> Callable[..., GradientStatistics]:
    """The weighted gradient of a batch and statistics, by one backward pass.

    What is not asked for is not computed: without a flag this is
    `gradient_with_norms`. Layer norms are free. Cosines and the noise scale take one
    more weighted sum if there are weights; cosines take one more product per layer,
    as in a forward pass. The Gram matrix takes `B^2` inner products of factors.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar` of ONE example.
        layer_norms: Whether to return them, and so on for the others.
        cosines: See `GradientStatistics`.
        gram: See `GradientStatistics`.
        noise_scale: See `GradientStatistics`.
        in_axes: See `per_example_gradients`.
        has_aux: See `per_example_gradients`.

    Returns:
        `f(params, weights, *batch) -> GradientStatistics`.

    Raises:
        TypeError, ValueError: See `gradient_with_norms`.

    Example:
        >>> loss = lambda w, x: 0.5 * (w @ x) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> ask = gradient_statistics(loss, gram=True, cosines=True)
        >>> found = ask(jnp.array([3.0, 1.0]), None, x)
        >>> found.gram.tolist(), [round(c, 4) for c in found.cosines.tolist()]
        ([[9.0, 0.0], [0.0, 16.0]], [0.6, 0.8])
    """

    def statistics(
        params: Params, weights: PyTree, *args: PyTree
    ) -> GradientStatistics:
        given = inputs.read(loss_fn, params, args, in_axes, has_aux)
        gradients = batch.differentiate(given)
        squares = [
            batch.square_norms(leaf, gradients.losses) for leaf in gradients.leaves
        ]
        norms = batch.norms_of(gradients, squares)
        keep = jnp.isfinite(norms)
        total = batch.weighted_sums(gradients, read_weights(weights, given.size), keep)
        mean = None
        if cosines or noise_scale:
            mean = _mean(gradients, keep, total if weights is None else None)
        unflatten = given.unflatten_params
        return GradientStatistics(
            gradient=unflatten(total),
            norms=norms,
            layer_norms=unflatten([batch.root(s) for s in squares])
            if layer_norms
            else None,
            cosines=_cosines(gradients, mean, norms) if cosines else None,
            gram=_gram(gradients) if gram else None,
            noise_scale=_noise_scale(mean, norms, keep) if noise_scale else None,
            num_nonfinite=jnp.sum(~keep),
            aux=gradients.aux if has_aux else None,
        )

    return statistics


def _mean(
    gradients: Gradients, keep: jax.Array, total: list[jax.Array] | None
) -> list[jax.Array]:
    """The plain mean over the examples that are kept."""
    if total is None:
        total = batch.weighted_sums(gradients, None, keep)
    count = jnp.maximum(jnp.sum(keep), 1)
    return [leaf / count for leaf in total]


def _square(tree: PyTree) -> jax.Array:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in tree), jnp.zeros(()))


def _cosines(gradients: Gradients, mean: Params, norms: jax.Array) -> jax.Array:
    pairs = zip(gradients.leaves, mean, strict=True)
    products = sum(batch.along(leaf, direction) for leaf, direction in pairs)
    length = norms * batch.root(_square(mean))
    zero = length == 0
    return jnp.where(zero, 0, products / jnp.where(zero, 1, length))


def _gram(gradients: Gradients) -> jax.Array:
    size = gradients.losses.shape[0]
    return sum((batch.gram(leaf, size) for leaf in gradients.leaves), jnp.zeros(()))


def _noise_scale(mean: Params, norms: jax.Array, keep: jax.Array) -> jax.Array:
    count = jnp.sum(keep)
    small = jnp.sum(jnp.where(keep, jnp.square(norms), 0)) / jnp.maximum(count, 1)
    large, others = _square(mean), jnp.maximum(count - 1, 1)
    signal = (count * large - small) / others
    noise = (small - large) * count / others
    return jnp.where(signal > 0, noise / jnp.where(signal > 0, signal, 1), jnp.inf)
