"""An estimator that clips the gradient of every example by itself."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads.autodiff.per_example import clip_factor, reweighted_gradients
from rl_grads.gradients import quantiles, receipts
from rl_grads.gradients.estimators import (
    About,
    Estimator,
    Params,
    mean_gradient,
    mean_of_finite,
)
from rl_grads.gradients.receipts import Receipt
from rl_grads.typing import PyTree, Section, State


def default(config: Section) -> Estimator:
    """The estimator for a config that asks for no signals: the mean, clipped or not.

    Args:
        config: The whole config; `gradient.per_example` is read.
    """
    return per_example_clip() if is_asked(config) else mean_gradient()


def is_asked(config: Section) -> bool:
    """Whether a config clips single examples."""
    clip = config.gradient.per_example
    return clip.max_norm is not None or clip.quantile is not None


class ClipState(NamedTuple):
    """State of the estimator.

    Attributes:
        norms: All norms so far, see `quantiles`.
        receipt: What the last clip did: part of the examples that it changed, mean
            norms, and the angle between the mean gradients without and with it.
        bias: Norm of the difference of those two, over the norm of the one without.
    """

    norms: jax.Array
    receipt: Receipt
    bias: jax.Array


class _Sums(NamedTuple):
    """One thing with the clip, and one without."""

    clipped: Any
    plain: Any


def per_example_clip() -> Estimator:
    """The mean of gradients clipped one by one, as `gradient.per_example` says.

    `sum_i weights_i * g_i * min(1, C / |g_i|) / B` (Abadi et al. 2016, without the
    noise): one backward pass, and a weighted sum more for the bias. C is `max_norm`, or
    a quantile of the norms of all examples so far, those of the batch included; the
    smaller one where both are set. Signals have the norms before the clip. Examples
    that are not finite are treated as in `estimators.gradient_norms`.

    Example:
        >>> from types import SimpleNamespace
        >>> from rl_grads.td.transition import Signals
        >>> def loss(params, bootstrap_params, x, config):
        ...     return 0.5 * (x - params) ** 2, Signals(x - params)
        >>> clip = SimpleNamespace(max_norm=2.0, quantile=None)
        >>> config = SimpleNamespace(gradient=SimpleNamespace(per_example=clip))
        >>> estimator, batch = per_example_clip(), jnp.array([0.5, 5.0])
        >>> about = About(loss, 1.0, 1.0, batch, None, config)
        >>> state = estimator.init(1.0)
        >>> gradient, _, state = estimator.update(state, jax.random.key(0), about)
        >>> float(gradient), float(state.receipt.fraction)
        (-0.75, 0.5)
    """

    def update(
        state: ClipState, key: jax.Array, about: About
    ) -> tuple[Params, Params, ClipState]:
        clip, weights = about.config.gradient.per_example, about.weights

        def weigh(norms: jax.Array) -> _Sums:
            factor = clip_factor(norms, _limit(clip, quantiles.add(state.norms, norms)))
            return _Sums(factor if weights is None else weights * factor, weights)

        differentiate = reweighted_gradients(
            about.loss, weigh, in_axes=(None, None, 0, None), has_aux=True
        )
        rest = (about.bootstrap_params, about.batch, about.config)
        (sums, norms), signals = differentiate(about.params, *rest)
        seen = quantiles.add(state.norms, norms)
        means = _Sums(*(mean_of_finite(total, norms) for total in sums))
        after = _report(means, norms, _limit(clip, seen), seen)
        return means.clipped, signals._replace(gradient_norm=norms), after

    return Estimator(_init, update)


def _init(params: Params) -> ClipState:
    zero = jnp.zeros((), jnp.result_type(float))
    return ClipState(quantiles.init(), Receipt(*[zero] * 4), zero)


def _limit(clip: PyTree, norms: jax.Array) -> jax.Array | float:
    """The largest norm that passes."""
    limits = [limit for limit in (clip.max_norm,) if limit is not None]
    if clip.quantile is not None:
        limits.append(quantiles.quantile(norms, clip.quantile))
    return jnp.min(jnp.stack([jnp.asarray(x) for x in limits])) if limits else jnp.inf


def _report(
    means: _Sums, norms: jax.Array, limit: jax.Array | float, seen: jax.Array
) -> ClipState:
    """The state after an update; nothing is differentiated through its numbers."""
    means, norms, limit = jax.lax.stop_gradient((means, norms, limit))
    finite = jnp.isfinite(norms)
    count = jnp.sum(finite)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(finite, values, 0)) / count

    difference = optax.tree.norm(optax.tree.sub(means.clipped, means.plain))
    length = optax.tree.norm(means.plain)
    receipt = Receipt(
        fraction=mean(norms > limit),
        norm_before=mean(norms),
        norm_after=mean(jnp.minimum(norms, limit)),
        angle=receipts.compare(means.plain, means.clipped).angle,
    )
    bias = jnp.where(length > 0, difference / jnp.where(length > 0, length, 1), 0)
    return ClipState(seen, receipt, bias)


def metrics(estimator_state: State) -> dict[str, jax.Array]:
    """What the clip of the last update did; nothing without one.

    Args:
        estimator_state: State of an estimator, after an update.
    """
    if not isinstance(estimator_state, ClipState):
        return {}
    found = receipts.metrics("per_example", estimator_state.receipt)
    return found | {"clip/per_example/bias": estimator_state.bias}
