"""Importance weights whose derivative knows that the draws depend on the exponent.

What is drawn has no derivative, but how often it is drawn has one: in the mean over
all draws an example counts with its probability. So each gets a factor of value one
whose derivative is that of its log-probability (the "magic box" of Foerster et al.
2018). Nothing that is trained changes; the derivative of a weighted mean in the
exponent becomes that of the *expected* weighted mean.
"""

import jax
import jax.numpy as jnp

from rl_grads.replay.priorities import importance_weights
from rl_grads.replay.schema import Importance


def exponent_factor(log_score: jax.Array, exponent: jax.Array | float) -> jax.Array:
    """Ones, with the derivative of `log(score ** exponent)` in the exponent, `[B]`.

    Args:
        log_score: Logarithm of the score of each drawn example, finite, `[B]`; a
            constant added to all is of no consequence to `soft_weights`.
        exponent: `replay.exponent`, with which they have been drawn.

    Example:
        >>> log_score = jnp.array([2.0, -1.0])
        >>> exponent_factor(log_score, 0.5).tolist()
        [1.0, 1.0]
        >>> jax.jacobian(lambda e: exponent_factor(log_score, e))(0.5).tolist()
        [2.0, -1.0]
    """
    moved = exponent - jax.lax.stop_gradient(exponent)
    return jnp.exp(moved * jax.lax.stop_gradient(log_score))


def soft_weights(
    ratio: jax.Array,
    importance: Importance,
    drawn: jax.Array,
    also: jax.Array | float = 1.0,
) -> jax.Array:
    """Importance weights, times how often each example is drawn, `[B]`.

    Their values are those of `importance_weights`. The batch stands for all that could
    have been drawn, without a pass over that: factors are divided by their mean. For B
    independent draws the derivative is then `1 - 1 / B` of the whole.

    Args:
        ratio: `count * probability` of each drawn example.
        importance: Section `replay.importance`; its exponent has a derivative as well.
        drawn: Factors of the draw, see `exponent_factor`, `[B]`; the weights correct
            for them.
        also: Further factors of value one, which no importance weight corrects.

    Example:
        >>> from rl_grads.replay.schema import Importance
        >>> half, ratio = Importance(0.5, normalise="none"), jnp.array([1.0, 4.0])
        >>> log_score = jnp.array([3.0, 5.0])
        >>> def weights(exponent):
        ...     return soft_weights(ratio, half, exponent_factor(log_score, exponent))
        >>> weights(1.0).tolist()
        [1.0, 0.5]
        >>> jax.jacobian(weights)(1.0).tolist()  # (1 - 0.5) (log score - 4) weight
        [-0.5, 0.25]
    """
    live = ratio * relative(drawn)
    weights = relative(drawn * also) * importance_weights(live, 1, importance)
    if importance.normalise != "mean":
        return weights
    # The mean is one over draws, so it moves with how often each is drawn.
    mean = jnp.mean(weights)
    return weights * (jax.lax.stop_gradient(mean) / mean)


def relative(factor: jax.Array) -> jax.Array:
    """Factors over their mean."""
    return factor / jnp.mean(factor)
