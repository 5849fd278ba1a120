"""Evaluation of ONE member: greedy episodes, or the error against exact values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rl_grads import long
from rl_grads.agents.agent import Agent, evaluated
from rl_grads.envs.chain_answers import target_model
from rl_grads.envs.environment import Environment
from rl_grads.long import Long
from rl_grads.training.member import MemberState, Parts
from rl_grads.training.schema import Config
from rl_grads.typing import Params

# What a run is judged by, of control and of prediction.
HEADLINES = ("evaluation/return", "evaluation/rmsve")
# Folded into a member's key; no iteration has this number.
_EVALUATION = 0xFFFFFFFF
# States times parameters: its decomposition takes about a tenth of a second.
_LARGEST_JACOBIAN = 1_000_000


class _Rollout(NamedTuple):
    """Episodes under way, one per environment `[E]`."""

    time: jax.Array
    state: Any
    obs: jax.Array
    reward: Long
    length: jax.Array
    running: jax.Array


def evaluate(
    parts: Parts, member: MemberState, time: jax.Array, axis: str | None = None
) -> dict[str, jax.Array]:
    """Metrics `evaluation/...` of what `agents.agent.evaluated` says is judged.

    Control: mean return and length of greedy episodes in fresh environments.
    Prediction, where the exact values are known: root mean square value error, and the
    projected Bellman error unless states times parameters exceed a million.

    Where an average of the parameters is kept it is judged, and the last iterate beside
    it, in the same episodes: `evaluation/return_iterate`, `evaluation/rmsve_iterate`.

    Args:
        parts: What the member is made of.
        member: Its state.
        time: Steps per environment so far; every evaluation draws its own keys.
        axis: See `run_greedy`.
    """

    def judge(params: Params) -> dict[str, jax.Array]:
        if parts.agent.greedy is None:
            return _prediction(parts, params)
        return _control(parts, params, member, time, axis)

    metrics = judge(evaluated(member.agent))
    if member.agent.average is not None:
        iterate = judge(member.agent.params)
        metrics |= {f"{n}_iterate": iterate[n] for n in HEADLINES if n in iterate}
    return metrics


def _prediction(parts: Parts, params: Params) -> dict[str, jax.Array]:
    if parts.environment.exact is None:
        return {}
    metrics = {"evaluation/rmsve": value_error(parts, params)}
    if _jacobian_size(parts, params) > _LARGEST_JACOBIAN:
        return metrics
    return metrics | {"evaluation/rmspbe": projected_error(parts, params)}


def _control(
    parts: Parts, params: Params, member: MemberState, time: jax.Array, axis: str | None
) -> dict[str, jax.Array]:
    environment = parts.environment
    if environment.evaluation is not None:
        environment = environment.evaluation(member.environment)
    key = jax.random.fold_in(jax.random.fold_in(member.key, _EVALUATION), time)
    end = run_greedy(parts.agent, environment, params, key, parts.config, axis)
    return {
        "evaluation/return": jnp.mean(end.reward.high),
        "evaluation/length": jnp.mean(end.length),
    }


def run_greedy(
    agent: Agent,
    environment: Environment,
    params: Params,
    key: jax.Array,
    config: Config,
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
    running = jnp.ones(settings.episodes, bool)
    start = _Rollout(
        time=jnp.int32(0),
        state=state,
        obs=obs,
        reward=long.zero(jnp.zeros(settings.episodes)),
        length=jnp.zeros(settings.episodes, jnp.int32),
        running=running,
    )

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
            reward=long.plus(
                rollout.reward, jnp.where(rollout.running, out.reward, 0.0)
            ),
            length=rollout.length + rollout.running,
            running=rollout.running & ~(out.terminated | out.truncated),
        )

    def going(rollout: _Rollout) -> jax.Array:
        running = jnp.any(rollout.running)
        if axis is not None:
            running = jax.lax.pmax(running.astype(jnp.int32), axis) > 0
        return running & (rollout.time < limit)

    return jax.lax.while_loop(going, step, start)


class _Exact(NamedTuple):
    """What is known of a chain, `[S]` and `[S, S]`, in the float type of the trace."""

    transition: jax.Array
    reward: jax.Array
    distribution: jax.Array
    obs: jax.Array


def _exact(parts: Parts) -> _Exact:
    chain, dtype = parts.environment.exact, jnp.result_type(float)
    tables = (*target_model(chain), chain.distribution, chain.features)
    return _Exact(*(jnp.asarray(table, dtype) for table in tables))


def _values(parts: Parts, params: Params) -> jax.Array:
    """The agent's value of every state `[S]`; that of a terminal one is zero."""
    estimate = jax.vmap(parts.agent.value, (None, 0))(params, _exact(parts).obs)
    return jnp.where(parts.environment.exact.terminal, 0.0, estimate)


def value_error(parts: Parts, params: Params) -> jax.Array:
    """RMSVE: root mean square error of the values over the on-policy distribution.

    Sutton & Barto 2018, eq. 9.1, against the exact values of the target policy at the
    agent's own discount.
    """
    exact = _exact(parts)
    discounted = parts.config.agent.discount * exact.transition
    true = _solve(jnp.eye(len(discounted)) - discounted, exact.reward)
    square = jnp.square(_values(parts, params) - true)
    return jnp.sqrt(exact.distribution @ square)


@jax.custom_batching.sequential_vmap
def _solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """One system at a time: a batch of large ones on several CPU devices may hang."""
    return jnp.linalg.solve(matrix, right)


def projected_error(parts: Parts, params: Params) -> jax.Array:
    """RMSPBE: root mean square of the projected Bellman error.

    Sutton & Barto 2018, section 11.7, over the on-policy distribution. The projection
    is on the span of the values' derivatives in the parameters: of the features of a
    linear network, of the tangent space of another one (Maei et al. 2009). A network
    that can fit every state projects nothing away. Costs a singular value
    decomposition `[states, parameters]`.
    """
    exact = _exact(parts)
    values = _values(parts, params)
    discounted = parts.config.agent.discount * exact.transition
    bellman = exact.reward + discounted @ values - values
    root = jnp.sqrt(exact.distribution)
    basis, scale, _ = jnp.linalg.svd(
        root[:, None] * _jacobian(parts, params), full_matrices=False
    )
    rounding = max(basis.shape[0], scale.size) * jnp.finfo(scale.dtype).eps
    inside = scale > rounding * jnp.max(scale)
    return jnp.linalg.norm(jnp.where(inside, (root * bellman) @ basis, 0.0))


def _jacobian(parts: Parts, params: Params) -> jax.Array:
    """Derivatives of all values in all parameters, `[S, P]`."""
    flat, unravel = ravel_pytree(params)

    def values(flat: jax.Array) -> jax.Array:
        return _values(parts, unravel(flat))

    wide = flat.size > len(parts.environment.exact.terminal)
    return (jax.jacrev if wide else jax.jacfwd)(values)(flat)


def _jacobian_size(parts: Parts, params: Params) -> int:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return parameters * len(parts.environment.exact.terminal)
