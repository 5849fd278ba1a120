"""An estimator that looks at a large batch and learns from a part of it."""

from collections.abc import Callable
from typing import Any

import jax

from rl_grads.autodiff.per_example import per_example_norms
from rl_grads.gradients.estimators import Estimator


def resampled(inner: Estimator, choose: Callable[..., Any]) -> Estimator:
    """Norms of all gradients, then `inner` on the examples that `choose` draws by them.

    The norms take less than the gradient of the large batch. The signals are those of
    the chosen examples.

    Args:
        inner: The estimator of the chosen batch.
        choose: `choose(key, signals, config)`, of signals `[m * B]` with their
            `gradient_norm`, returns `places` and `weights`, `[B]` each.

    Example:
        >>> from rl_grads.gradients.estimators import mean_gradient
        >>> from rl_grads.replay.large_batch import choose
        >>> estimator = resampled(mean_gradient(), choose)
    """

    def update(
        state: Any,
        key: jax.Array,
        loss: Callable[..., Any],
        params: Any,
        bootstrap_params: Any,
        batch: Any,
        weights: jax.Array | None,
        config: Any,
    ) -> tuple[Any, Any, Any]:
        def one(params: Any, example: Any) -> tuple[jax.Array, Any]:
            return loss(params, bootstrap_params, example, config)

        key_choose, key = jax.random.split(key)
        norms, signals = per_example_norms(one, has_aux=True)(params, batch)
        signals = jax.lax.stop_gradient(signals._replace(gradient_norm=norms))
        chosen = choose(key_choose, signals, config)
        part = jax.tree.map(lambda leaf: leaf[chosen.places], batch)
        own = 1.0 if weights is None else weights[chosen.places]
        weights = own * chosen.weights
        gradient, signals, state = inner.update(
            state, key, loss, params, bootstrap_params, part, weights, config
        )
        return gradient, signals._replace(gradient_norm=norms[chosen.places]), state

    return Estimator(inner.init, update)
