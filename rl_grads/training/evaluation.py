"""Evaluation of ONE member: greedy episodes, or the error against exact values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.agents.agent import Agent
from rl_grads.envs.chain_answers import target_model
from rl_grads.envs.environment import Environment
from rl_grads.training.loop import MemberState, Parts

# Folded into a member's key; no iteration has this number.
_EVALUATION = 0xFFFFFFFF


class _Rollout(NamedTuple):
    """Episodes under way, one per environment `[E]`."""

    time: jax.Array
    state: Any
    obs: jax.Array
    reward: jax.Array
    length: jax.Array
    running: jax.Array


def evaluate(
    parts: Parts, member: MemberState, time: jax.Array, axis: str | None = None
) -> dict[str, jax.Array]:
    """Metrics of the current parameters: `evaluation/...`, scalars.

    Control: mean return and length of greedy episodes in fresh environments.
    Prediction: root mean square value error where the exact values are known.

    Args:
        parts: What the member is made of.
        member: Its state.
        time: Steps per environment so far; every evaluation draws its own keys.
        axis: See `run_greedy`.
    """
    if parts.agent.greedy is not None:
        key = jax.random.fold_in(member.key, _EVALUATION)
        return _greedy(parts, member, jax.random.fold_in(key, time), axis)
    if parts.environment.exact is not None:
        return {"evaluation/rmsve": value_error(parts, member.agent.params)}
    return {}


def _greedy(
    parts: Parts, member: MemberState, key: jax.Array, axis: str | None
) -> dict[str, jax.Array]:
    environment = parts.environment
    if environment.evaluation is not None:
        environment = environment.evaluation(member.environment)
    agent, params = parts.agent, member.agent.params
    end = run_greedy(agent, environment, params, key, parts.config, axis)
    return {
        "evaluation/return": jnp.mean(end.reward),
        "evaluation/length": jnp.mean(end.length),
    }


def run_greedy(
    agent: Agent,
    environment: Environment,
    params: Any,
    key: jax.Array,
    config: Any,
    axis: str | None = None,
) -> _Rollout:
    """Play `evaluation.episodes` greedy episodes at once, each to its end.

    Args:
        agent: An agent with a greedy policy.
        environment: What it plays.
        params: Its parameters.
        key: Of the environments.
        config: The whole config; `evaluation` is read.
        axis: Name of the `vmap` around, if any: all play on until the last one ends.
            JAX cannot call a host environment in a loop that ends for some only.
    """
    assert agent.greedy is not None
    greedy, settings = agent.greedy, config.evaluation
    limit = settings.max_steps
    key_reset, key_steps = jax.random.split(key)
    keys = jax.random.split(key_reset, settings.episodes)
    state, obs = jax.vmap(environment.reset)(keys)
    zeros = jnp.zeros(settings.episodes)
    running = jnp.ones(settings.episodes, bool)
    start = _Rollout(jnp.int32(0), state, obs, zeros, zeros, running)

    def step(rollout: _Rollout) -> _Rollout:
        actions = jax.vmap(greedy, (None, 0))(params, rollout.obs)
        keys = jax.random.split(
            jax.random.fold_in(key_steps, rollout.time), settings.episodes
        )
        state, out = jax.vmap(environment.step)(keys, rollout.state, actions)
        return _Rollout(
            time=rollout.time + 1,
            state=state,
            obs=out.obs,
            reward=rollout.reward + jnp.where(rollout.running, out.reward, 0.0),
            length=rollout.length + rollout.running,
            running=rollout.running & ~(out.terminated | out.truncated),
        )

    def going(rollout: _Rollout) -> jax.Array:
        running = jnp.any(rollout.running)
        if axis is not None:
            running = jax.lax.pmax(running.astype(jnp.int32), axis) > 0
        return running & (rollout.time < limit)

    return jax.lax.while_loop(going, step, start)


def value_error(parts: Parts, params: Any) -> jax.Array:
    """RMSVE: root mean square error of the values over the on-policy distribution.

    Sutton & Barto 2018, eq. 9.1, against the exact values of the target policy at the
    agent's own discount.
    """
    chain = parts.environment.exact
    dtype = jnp.result_type(float)
    transition, reward = (jnp.asarray(x, dtype) for x in target_model(chain))
    system = jnp.eye(len(reward)) - parts.config.agent.discount * transition
    exact = jnp.linalg.solve(system, reward)
    obs = jnp.asarray(chain.features, dtype)
    estimate = jax.vmap(parts.agent.value, (None, 0))(params, obs)
    square = jnp.square(jnp.where(chain.terminal, 0.0, estimate - exact))
    return jnp.sqrt(jnp.asarray(chain.distribution, dtype) @ square)
