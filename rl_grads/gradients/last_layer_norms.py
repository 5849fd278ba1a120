"""An estimator that adds the norm of each example's gradient in the last layer."""

from collections.abc import Callable
from typing import Any

import jax

from rl_grads.autodiff.last_layer import last_layer
from rl_grads.autodiff.per_example import per_example_norms
from rl_grads.gradients.estimators import Estimator


def last_layer_norms(inner: Estimator, apply: Callable[..., Any]) -> Estimator:
    """`inner`, with `signals.extra["gradient_norm_last_layer"]` `[B]` beside its own.

    The backward pass ends at the last layer, and the compiler shares the forward pass
    with the gradient's.

    Args:
        inner: What computes the gradient.
        apply: `apply(params, obs)`, the network whose last layer is meant; see
            `rl_grads.autodiff.last_layer`.

    Example:
        >>> import flax.linen as nn
        >>> from rl_grads.gradients.estimators import mean_gradient
        >>> estimator = last_layer_norms(mean_gradient(), nn.Dense(2).apply)
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
        given = (loss, params, bootstrap_params, batch, weights, config)
        gradient, signals, state = inner.update(state, key, *given)
        leaves, structure = jax.tree.flatten(params)
        is_last = jax.tree.leaves(last_layer(apply, params, batch.s_tm1[0]))

        def of_last(last: list[Any], example: Any) -> jax.Array:
            own = iter(last)
            parts = zip(leaves, is_last, strict=True)
            merged = [next(own) if here else leaf for leaf, here in parts]
            whole = jax.tree.unflatten(structure, merged)
            return loss(whole, bootstrap_params, example, config)[0]

        last = [x for x, here in zip(leaves, is_last, strict=True) if here]
        norms = per_example_norms(of_last)(last, batch)
        extra = {**signals.extra, "gradient_norm_last_layer": norms}
        return gradient, signals._replace(extra=extra), state

    return Estimator(inner.init, update)
