"""One batch out of a large one, by its scores (LaBER).

Lahire, Geist & Rachelson 2022, "Large batch experience replay", algorithm 1. The
scores are fresh, so nothing about priorities is stored and none is stale.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.replay import blocked_sums, priorities
from rl_grads.replay.soft_weights import exponent_factor, soft_weights
from rl_grads.training.schema import Config, replay_of
from rl_grads.typing import PyTree


class Chosen(NamedTuple):
    """Places in the large batch and weights, `[B]`."""

    places: jax.Array
    weights: jax.Array


def choose(key: jax.Array, signals: PyTree, config: Config) -> Chosen:
    """Draw `training.batch_size` examples in proportion to `score ** exponent`.

    The weights are `mean(p) / p`, to the power of `replay.importance.exponent` and
    normalised as that section says. Their derivative knows that the draw depends on
    the exponent of the scores, see `soft_weights`. A score that is negative or not
    finite is never drawn; if none is left the draw is uniform, with weights of one.

    Args:
        key: PRNG key.
        signals: Of the large batch, `[m * B]`.
        config: The whole config; `replay` and `training.batch_size` are read.
    """
    scores = priorities.scheme(config)(signals, config)
    powered = priorities.raised(scores, replay_of(config).exponent)
    powered = jnp.where(jnp.isnan(powered), 0.0, powered)
    tree = blocked_sums.build(jnp.where(jnp.any(powered > 0), powered, 1.0))
    places = blocked_sums.draw(key, tree, config.training.batch_size)
    probability = blocked_sums.get(tree, places) / blocked_sums.total(tree)
    ratio = jax.lax.stop_gradient(scores.shape[0] * probability)
    log_score = jnp.log(jnp.where(powered > 0, scores, 1.0))[places]
    drawn = exponent_factor(log_score, replay_of(config).exponent)
    return Chosen(places, soft_weights(ratio, replay_of(config).importance, drawn))
