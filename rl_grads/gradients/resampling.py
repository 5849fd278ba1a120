"""An estimator that looks at a large batch and learns from a part of it."""

import jax

from rl_grads.autodiff.per_example import per_example_norms
from rl_grads.gradients.estimators import About, Estimator, Params
from rl_grads.typing import Function, PyTree, State, Transitions


def resampled(inner: Estimator, choose: Function) -> Estimator:
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
        state: State, key: jax.Array, about: About
    ) -> tuple[Params, PyTree, State]:
        def loss(params: Params, example: Transitions) -> tuple[jax.Array, PyTree]:
            return about.loss(params, about.bootstrap_params, example, about.config)

        key_choose, key = jax.random.split(key)
        norms, signals = per_example_norms(loss, has_aux=True)(
            about.params, about.batch
        )
        signals = jax.lax.stop_gradient(signals._replace(gradient_norm=norms))
        chosen = choose(key_choose, signals, about.config)
        own = 1.0 if about.weights is None else about.weights[chosen.places]
        part = about._replace(
            batch=jax.tree.map(lambda leaf: leaf[chosen.places], about.batch),
            weights=own * chosen.weights,
        )
        gradient, signals, state = inner.update(state, key, part)
        return gradient, signals._replace(gradient_norm=norms[chosen.places]), state

    return Estimator(inner.init, update)
