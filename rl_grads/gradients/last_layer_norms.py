"""An estimator that adds the norm of each example's gradient in the last layer."""

import jax

from rl_grads.autodiff.last_layer import last_layer
from rl_grads.autodiff.per_example import per_example_norms
from rl_grads.gradients.estimators import About, Estimator, Params
from rl_grads.typing import Function, PyTree, State, Transitions


def last_layer_norms(inner: Estimator, apply: Function) -> Estimator:
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
        state: State, key: jax.Array, about: About
    ) -> tuple[Params, PyTree, State]:
        gradient, signals, state = inner.update(state, key, about)
        leaves, structure = jax.tree.flatten(about.params)
        is_last = jax.tree.leaves(last_layer(apply, about.params, about.batch.s_tm1[0]))

        def of_last(last: list[Params], example: Transitions) -> jax.Array:
            own = iter(last)
            parts = zip(leaves, is_last, strict=True)
            merged = [next(own) if here else leaf for leaf, here in parts]
            whole = jax.tree.unflatten(structure, merged)
            rest = (about.bootstrap_params, example, about.config)
            return about.loss(whole, *rest)[0]

        last = [x for x, here in zip(leaves, is_last, strict=True) if here]
        norms = per_example_norms(of_last)(last, about.batch)
        extra = {**signals.extra, "gradient_norm_last_layer": norms}
        return gradient, signals._replace(extra=extra), state

    return Estimator(inner.init, update)
