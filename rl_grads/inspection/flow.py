"""The gradient-flow audit of a config: its loss, on its environment's transitions."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import prng
from rl_grads.agents.agent import AgentState
from rl_grads.config import canonical
from rl_grads.inspection.audit import Audit, audit
from rl_grads.td.transition import Transition
from rl_grads.training import collecting, learning, loop
from rl_grads.training.checks.door import check
from rl_grads.training.engine import Given, parts
from rl_grads.training.member import Parts
from rl_grads.training.schema import Config


class _Drawn(NamedTuple):
    """A fresh agent, and transitions `[B, ...]` of its own behaviour."""

    agent: AgentState
    batch: Transition


def gradient_flow(config: Config, transitions: int = 256) -> Audit:
    """Audit the loss that a config trains with, at fresh parameters.

    Args:
        config: The whole config; its `seed` draws parameters and transitions.
        transitions: How many, at least; they are the first of every environment.

    Raises:
        ConfigError: The config does not fit.

    Example:
        >>> from rl_grads.agents.schema import Linear, Prediction
        >>> from rl_grads.envs.schema import Env
        >>> config = Config(
        ...     agent=Prediction(), network=Linear(0.5), env=Env(id="chain/random_walk")
        ... )
        >>> gradient_flow(config).leaks
        {}
    """
    config = canonical(config)
    check(config, Given(None, None))
    with jax.enable_x64(config.precision == "float64"):
        pieces = parts(Given(None, None), _collecting(config, transitions))
        drawn = jax.jit(lambda key: _draw(pieces, key))(prng.key(config.seed))
        params, target = drawn.agent.params, drawn.agent.target_params
        bootstrap_params = params if target is None else target
        return audit(pieces.agent.loss, params, bootstrap_params, drawn.batch, config)


def _collecting(config: Config, transitions: int) -> Config:
    """The config with one long iteration, and without a memory."""
    steps = math.ceil(transitions / config.training.num_envs)
    training = dataclasses.replace(config.training, num_steps=steps)
    return dataclasses.replace(config, training=training, replay=None)


def _draw(pieces: Parts, key: jax.Array) -> _Drawn:
    member = loop.init(pieces, key)
    keys = collecting.iteration_keys(member.key, jnp.int32(0), pieces.config.training)
    _, experience, _ = collecting.collect(pieces, member, keys)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), experience)
    batch = learning.transition(flat, pieces.config)
    return _Drawn(member.agent, _with_next_actions(pieces, member.agent, batch, key))


def _with_next_actions(
    pieces: Parts, agent: AgentState, batch: Transition, key: jax.Array
) -> Transition:
    """Transitions with the next action that on-policy losses read."""
    if pieces.agent.act is None:
        return batch
    act = jax.vmap(pieces.agent.act, (None, 0, 0, None))
    keys = jax.random.split(key, batch.r_t.shape[0])
    a_t = act(agent, keys, batch.s_t, pieces.config)
    return batch._replace(a_t=a_t)
