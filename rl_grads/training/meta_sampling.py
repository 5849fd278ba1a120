"""Weights of inner updates that know of what is drawn: `meta.sampling`."""

import jax
import jax.numpy as jnp

from rl_grads.agents.agent import Agent
from rl_grads.meta.behaviour import behaviour_matching
from rl_grads.meta.inner import Batch, Weigh
from rl_grads.replay.soft_weights import exponent_factor, relative, soft_weights
from rl_grads.training.schema import Config, replay_of
from rl_grads.typing import State


def weigher(agent: Agent, forms: tuple[str, ...] | None) -> Weigh | None:
    """The weights of an inner update; None for those that its batch has.

    Their values are those of the batch, ones where it has none; their derivatives say
    how often an example would be seen at another `replay.exponent` (`"soft_weights"`)
    or another `agent.behaviour_policy` (`"behaviour_matching"`). Out of a memory the
    batch stands for all that it holds, and factors are divided by their mean. Online
    they are not: a policy's probabilities are normalised.

    Args:
        agent: The agent; with `"behaviour_matching"` one with a policy.
        forms: `meta.sampling`.

    Raises:
        ConfigError: The agent has no policy to match.

    Example:
        >>> weigher(agent, ("soft_weights",))(state, batch, config)  # doctest: +SKIP
        Array([0.5, 1., 1.5], dtype=float32)
    """
    if not forms:
        return None
    matching = behaviour_matching(agent) if "behaviour_matching" in forms else None

    def weigh(state: State, batch: Batch, config: Config) -> jax.Array | None:
        acted = matching and matching(state, batch.transitions, config)
        if batch.ratio is not None:
            ones = jnp.ones_like(batch.ratio)
            drawn = _drawn(batch.ratio, config) if "soft_weights" in forms else ones
            also = ones if acted is None else acted
            return soft_weights(batch.ratio, replay_of(config).importance, drawn, also)
        if acted is None or config.replay is None:
            return acted
        return relative(acted)

    return weigh


def _drawn(ratio: jax.Array, config: Config) -> jax.Array:
    """Factors of the draw; the memory keeps powers of the scores, or of their ranks."""
    exponent = replay_of(config).exponent
    log_score = jnp.log(ratio) / jax.lax.stop_gradient(exponent)
    return exponent_factor(log_score, exponent)
