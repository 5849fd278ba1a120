"""Gradient estimators: the one seam between a loss and an optimizer.

    init(params) -> state
    update(state, key, about) -> (gradient, signals, state)

What an update is about is one record, `About`. Signals are per example, `[B]`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_grads.autodiff.mixed_mode import mixed_mode_grad
from rl_grads.autodiff.per_example import gradient_with_norms
from rl_grads.training.schema import Config
from rl_grads.typing import Function, Params, PyTree, State, Transitions

Loss = Callable[[Params, Params, Any, Any], tuple[jax.Array, Any]]


class About(NamedTuple):
    """What the gradient of an update is about.

    Attributes:
        loss: `loss(params, bootstrap_params, transition, config) -> (scalar, signals)`,
            of ONE transition.
        params: The derivative is taken in them.
        bootstrap_params: Parameters of the bootstrap.
        batch: Transitions `[B, ...]`.
        weights: `[B]`, at least 0; None for equal weights.
        config: The whole config.
    """

    loss: Loss
    params: Params
    bootstrap_params: Params
    batch: Any
    weights: jax.Array | None = None
    config: Any = None


class Estimator(NamedTuple):
    """A gradient estimator, a record of pure functions.

    Attributes:
        init: `init(params) -> state`.
        update: `update(state, key, about) -> (gradient, signals, state)`.
    """

    init: Callable[[Params], Any]
    update: Callable[[Any, jax.Array, About], tuple[Params, Any, Any]]


def mean_gradient(grad: Function = mixed_mode_grad) -> Estimator:
    """The gradient of the weighted mean loss, one backward pass for the batch.

    `weights` is `[B]` or None for equal weights; the gradient is
    `sum_i weights_i * g_i / B`. The derivative is taken in `params` only.

    Args:
        grad: How: `jax.grad`, or one whose own derivative is cheap in memory.

    Example:
        >>> def loss(params, bootstrap_params, x, config):
        ...     return 0.5 * (x - params) ** 2, x - params
        >>> about = About(loss, 1.0, 1.0, batch=jnp.array([1.0, 5.0]))
        >>> key = jax.random.key(0)
        >>> gradient, signals, _ = mean_gradient().update((), key, about)
        >>> float(gradient), signals.tolist()
        (-2.0, [0.0, 4.0])
    """

    def update(
        state: State, key: jax.Array, about: About
    ) -> tuple[Params, PyTree, State]:
        loss, *pair, batch, weights, config = about

        def total_loss(
            both: PyTree,
            rest: PyTree,
            batch: Transitions,
            weights: PyTree,
            config: Config,
        ) -> tuple[jax.Array, PyTree]:
            params, bootstrap_params = (*both, *rest)
            given = About(loss, params, bootstrap_params, batch, weights, config)
            losses, signals = weighted_losses(given)
            return jnp.sum(losses), signals

        # The sum, not the mean, so that clips inside the graph see whole examples. Such
        # a clip cuts whatever comes back through it, also a derivative from outside,
        # unless its backward pass is spent in here: then the derivative in the
        # bootstrap is taken too, and dropped.
        both, rest = (pair, []) if has_clip(config) else (pair[:1], pair[1:])
        totals, signals = grad(total_loss, has_aux=True)(
            both, rest, batch, weights, config
        )
        total = totals[0]
        count = jax.tree.leaves(batch)[0].shape[0]
        return jax.tree.map(lambda leaf: leaf / count, total), signals, state

    return Estimator(lambda params: (), update)


def weighted_losses(about: About) -> tuple[Float[Array, "B"], PyTree]:
    """The loss of every example times its weight, `[B]`, and the signals.

    A weight multiplies what a clip inside the graph leaves of an example's gradient, so
    it scales the thresholds as well.

    Args:
        about: The loss and the batch; with weights, `gradient.clip` of its config is
            read.

    Example:
        >>> def loss(params, bootstrap_params, x, config):
        ...     return 0.5 * (x - params) ** 2, x - params
        >>> about = About(loss, 1.0, 1.0, jnp.array([1.0, 5.0]), jnp.array([1.0, 0.5]))
        >>> weighted_losses(about)[0].tolist()
        [0.0, 4.0]
    """
    loss, params, bootstrap_params, batch, weights, config = about
    if weights is None:
        return jax.vmap(
            lambda example: loss(params, bootstrap_params, example, config)
        )(batch)

    def weighted(example: PyTree, weight: jax.Array) -> tuple[jax.Array, PyTree]:
        scaled = _with_scaled_clip(config, weight)
        value, signals = loss(params, bootstrap_params, example, scaled)
        return weight * value, signals

    return jax.vmap(weighted)(batch, weights)


def has_clip(config: Config) -> bool:
    """Whether a config clips inside the graph; None does not.

    Args:
        config: The whole config.

    Example:
        >>> has_clip(None)
        False
    """
    clip = getattr(getattr(config, "gradient", None), "clip", None)
    return clip is not None and not (clip.max_abs is None and clip.max_norm is None)


def _with_scaled_clip(config: Config, factor: jax.Array) -> Config:
    """The config with its clip inside the graph `factor` times as wide."""
    if not has_clip(config):
        return config
    clip = config.gradient.clip
    limits = {"max_abs": clip.max_abs, "max_norm": clip.max_norm}
    scaled = {name: factor * x for name, x in limits.items() if x is not None}
    clip = dataclasses.replace(clip, **scaled)
    gradient = dataclasses.replace(config.gradient, clip=clip)
    return dataclasses.replace(config, gradient=gradient)


def gradient_norms() -> Estimator:
    """The mean gradient and, as a signal, the norm of each example's own gradient.

    One backward pass, hardly more than the mean gradient alone. The norms are those of
    the unweighted loss. An example whose loss or gradient is not finite is left out of
    the mean and has a norm that is not finite; if all are, so is the mean.

    Example:
        >>> from rl_grads.td.transition import Signals
        >>> def loss(params, bootstrap_params, x, config):
        ...     return 0.5 * (x - params) ** 2, Signals(x - params)
        >>> about = About(loss, 1.0, 1.0, batch=jnp.array([1.0, 5.0]))
        >>> key = jax.random.key(0)
        >>> gradient, signals, _ = gradient_norms().update((), key, about)
        >>> float(gradient), signals.gradient_norm.tolist()
        (-2.0, [0.0, 4.0])
    """

    def update(
        state: State, key: jax.Array, about: About
    ) -> tuple[Params, PyTree, State]:
        axes = (None, None, 0, None)
        differentiate = gradient_with_norms(about.loss, in_axes=axes, has_aux=True)
        rest = (about.bootstrap_params, about.batch, about.config)
        (total, norms), signals = differentiate(about.params, about.weights, *rest)
        signals = signals._replace(gradient_norm=norms)
        return mean_of_finite(total, norms), signals, state

    return Estimator(lambda params: (), update)


def mean_of_finite(total: Params, norms: Float[Array, "B"]) -> Params:
    """A sum over the examples with finite norms, as a mean; nan if there are none."""
    count = jnp.sum(jnp.isfinite(norms))
    return jax.tree.map(lambda leaf: leaf / count, total)
