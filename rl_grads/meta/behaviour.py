"""Behaviour matching: numbers that act by the actions that an agent takes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rl_grads.agents.agent import Agent
from rl_grads.config import ConfigError
from rl_grads.typing import PyTree, Section, State


def behaviour_matching(agent: Agent) -> Callable[[PyTree, PyTree, PyTree], jax.Array]:
    """Factors of value one that know how likely the behaviour policy takes an action.

    What has been drawn has no derivative, but in the mean over all draws a transition
    counts with the probability `pi(a_tm1 | s_tm1)`. Times this over itself, held
    constant, an example's weight stays what it is, and its derivative is that of the
    mean (the "magic box" of Foerster et al. 2018). Likewise `pi(a_t | s_t)`, if the
    agent's loss reads an `a_t`, as that of SARSA does.

    The policy is that of the given state and config: exact for transitions that this
    agent has just gathered. It moves with the config alone, the state is held constant.
    A transition that the policy could not have chosen has a factor without derivative.

    Args:
        agent: One with a `policy`.

    Returns:
        `factor(state, transitions, config) -> [B]`, of transitions `[B, ...]`.

    Raises:
        ConfigError: The agent has none: its environment acts.

    Example:
        >>> factor = behaviour_matching(agent)                     # doctest: +SKIP
        >>> factor(state, transitions, config)                     # doctest: +SKIP
        Array([1., 1.], dtype=float32)
    """
    if agent.policy is None:
        raise ConfigError(
            "meta.sampling=behaviour_matching: expected an agent with a behaviour "
            "policy of its own; this one follows its environment's"
        )
    policy = agent.policy

    def factor(state: State, transitions: PyTree, config: Section) -> jax.Array:
        state = jax.lax.stop_gradient(state)

        def odds(obs: jax.Array, action: jax.Array) -> jax.Array:
            return _odds(policy(state.params, obs, config)[action])

        found = jax.vmap(odds)(transitions.s_tm1, transitions.a_tm1)
        if agent.prepare is None or not _reads_next(agent, state, transitions, config):
            return found
        seen = agent.prepare(state, transitions, config)  # As the update draws it.
        assert seen.a_t is not None
        return found * jax.vmap(odds)(seen.s_t, seen.a_t)

    return factor


def _odds(probability: jax.Array) -> jax.Array:
    """A probability over itself held constant; 1 where it is zero."""
    possible = jnp.where(probability > 0, probability, 1.0)
    return possible / jax.lax.stop_gradient(possible)


def _reads_next(
    agent: Agent, state: State, transitions: PyTree, config: Section
) -> bool:
    """Whether the loss of a transition depends on an action drawn in `s_t`."""
    first = jax.tree.map(lambda x: x[0], transitions)

    def loss(a_t: jax.Array) -> jax.Array:
        seen = first._replace(a_t=a_t)
        return agent.loss(state.params, state.params, seen, config)[0]

    traced = jax.make_jaxpr(loss)(jnp.zeros_like(first.a_tm1)).jaxpr
    (a_t,) = traced.invars
    return any(atom is a_t for eqn in traced.eqns for atom in eqn.invars)
