"""Changes to an environment: reward scale and clip, normalising, frame stacks.

The order is fixed, from the inside out: scale, clip, normalise, stack. A wrapper
that is off (`None`) leaves no trace in the program. A wrapped environment has no
`exact` answers: they hold for the raw one.

Policies are judged on the *evaluation environment*: raw rewards, and observations
normalised by the training statistics, merged over the training instances and frozen.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.envs.environment import INSTANCES, Environment, Step
from rl_grads.envs.moments import Moments, Statistics, merge, none_yet, observe
from rl_grads.envs.schema import Wrappers
from rl_grads.typing import PyTree, State


class Normalised(NamedTuple):
    """State of a normalised environment."""

    inner: Any
    statistics: Statistics


class Stacked(NamedTuple):
    """State of an environment with stacked frames; `frames` is `[..., depth]`."""

    inner: Any
    frames: jax.Array


def wrap(environment: Environment, wrappers: Wrappers) -> Environment:
    """An environment in the wrappers that a config asks for.

    Args:
        environment: The raw environment.
        wrappers: What to change; numbers may be tracers.

    Returns:
        The wrapped environment; the same object if every wrapper is off.

    Example:
        >>> from rl_grads.envs import make
        >>> from rl_grads.envs.schema import Env, Wrappers
        >>> environment = make.make(Env("gymnax/CartPole-v1"))
        >>> wrap(environment, Wrappers(frame_stack=3)).observation.shape
        (4, 3)
    """
    if wrappers.reward_scale is not None:
        environment = scale_reward(environment, wrappers.reward_scale)
    if wrappers.reward_clip is not None:
        environment = clip_reward(environment, wrappers.reward_clip)
    if wrappers.normalise_observation is not None:
        environment = normalise_observation(environment, wrappers.normalise_observation)
    if wrappers.frame_stack is not None:
        environment = stack_frames(environment, wrappers.frame_stack)
    return environment


def evaluated(environment: Environment, state: State) -> Environment:
    """The environment on which a policy is judged.

    Args:
        environment: The training environment.
        state: Its training states, stacked over instances `[num_envs, ...]`.

    Returns:
        `environment.evaluation(state)`, or the environment itself.
    """
    if environment.evaluation is None:
        return environment
    return environment.evaluation(state)


# ------------------------------------------------------------------------- rewards


def scale_reward(environment: Environment, factor: float | jax.Array) -> Environment:
    """Multiply every reward; raw rewards in evaluation."""
    return _with_reward(environment, lambda reward: reward * factor)


def clip_reward(environment: Environment, max_abs: float | jax.Array) -> Environment:
    """Clip every reward to `[-max_abs, max_abs]`; raw rewards in evaluation."""
    return _with_reward(environment, lambda reward: jnp.clip(reward, -max_abs, max_abs))


def _with_reward(
    environment: Environment, change: Callable[[jax.Array], jax.Array]
) -> Environment:
    """Pass every training reward through a function."""

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[PyTree, Step]:
        state, result = environment.step(key, state, action)
        reward = change(result.reward).astype(result.reward.dtype)
        return state, result._replace(reward=reward)

    return environment._replace(
        step=step,
        exact=None,
        evaluation=functools.partial(evaluated, environment),
    )


# --------------------------------------------------------------------- observations


def normalise_observation(
    environment: Environment, epsilon: float | jax.Array
) -> Environment:
    """Subtract the running mean and divide by `sqrt(running variance + epsilon)`.

    Every instance counts each observation that it shows (Welford, 1962): at the end of
    an episode the final one and then the first of the next. What all instances of a
    member have counted by a step, that step included, normalises their observations:
    by its own statistics an instance that never leaves one region would not show where
    that region is. `reset` and `step` need the axis `INSTANCES`.
    """

    def seen(statistics: Statistics) -> Callable[[jax.Array], jax.Array]:
        shared = merge(jax.lax.all_gather(statistics, INSTANCES))
        return lambda obs: _standardised(obs, shared, epsilon)

    def reset(key: jax.Array) -> tuple[Normalised, jax.Array]:
        inner, obs = environment.reset(key)
        statistics = observe(none_yet(environment.observation.shape), obs)
        return Normalised(inner, statistics), seen(statistics)(obs)

    def step(
        key: jax.Array, state: Normalised, action: jax.Array
    ) -> tuple[PyTree, Step]:
        inner, result = environment.step(key, state.inner, action)
        statistics = observe(state.statistics, result.final_obs)
        ended = result.terminated | result.truncated
        statistics = _where(ended, observe(statistics, result.obs), statistics)
        scaled = seen(statistics)
        return Normalised(inner, statistics), result._replace(
            obs=scaled(result.obs), final_obs=scaled(result.final_obs)
        )

    def evaluation(state: Normalised) -> Environment:
        raw = evaluated(environment, state.inner)
        return _frozen(raw, merge(state.statistics), epsilon)

    return _carried(environment)._replace(
        reset=reset,
        step=step,
        observation=_float32(environment.observation),
        evaluation=evaluation,
    )


def stack_frames(environment: Environment, depth: int) -> Environment:
    """Stack the last `depth` observations on a new last axis, the newest last.

    An episode starts with `depth` copies of its first observation.
    """

    def filled(obs: jax.Array) -> jax.Array:
        return jnp.repeat(obs[..., None], depth, axis=-1)

    def reset(key: jax.Array) -> tuple[Stacked, jax.Array]:
        inner, obs = environment.reset(key)
        return Stacked(inner, filled(obs)), filled(obs)

    def step(key: jax.Array, state: Stacked, action: jax.Array) -> tuple[PyTree, Step]:
        inner, result = environment.step(key, state.inner, action)
        newest = result.final_obs[..., None]
        final_obs = jnp.concatenate([state.frames[..., 1:], newest], axis=-1)
        ended = result.terminated | result.truncated
        frames = jnp.where(ended, filled(result.obs), final_obs)
        result = result._replace(obs=frames, final_obs=final_obs)
        return Stacked(inner, frames), result

    def evaluation(state: Stacked) -> Environment:
        return stack_frames(evaluated(environment, state.inner), depth)

    shape, dtype = environment.observation.shape, environment.observation.dtype
    return _carried(environment)._replace(
        reset=reset,
        step=step,
        observation=jax.ShapeDtypeStruct((*shape, depth), dtype),
        evaluation=None if environment.evaluation is None else evaluation,
    )


def _carried(environment: Environment) -> Environment:
    """Let the behaviour policy see the inner state, and drop the exact answers."""
    inner = environment.behaviour
    if inner is None:
        return environment._replace(exact=None)
    return environment._replace(
        exact=None, behaviour=lambda key, state: inner(key, state.inner)
    )


# ---------------------------------------------------------------------- statistics


def _standardised(
    obs: jax.Array, seen: Moments, epsilon: float | jax.Array
) -> jax.Array:
    """An observation in units of the running standard deviation."""
    deviation = jnp.sqrt(seen.variance + epsilon)
    return ((obs.astype(jnp.float32) - seen.mean) / deviation).astype(jnp.float32)


def _frozen(
    environment: Environment, seen: Moments, epsilon: float | jax.Array
) -> Environment:
    """Normalise by fixed statistics; the state is the inner one."""

    def scaled(obs: jax.Array) -> jax.Array:
        return _standardised(obs, seen, epsilon)

    def reset(key: jax.Array) -> tuple[PyTree, jax.Array]:
        state, obs = environment.reset(key)
        return state, scaled(obs)

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[PyTree, Step]:
        state, result = environment.step(key, state, action)
        obs, final_obs = scaled(result.obs), scaled(result.final_obs)
        return state, result._replace(obs=obs, final_obs=final_obs)

    return environment._replace(
        reset=reset,
        step=step,
        observation=_float32(environment.observation),
        exact=None,
    )


def _where(condition: jax.Array, yes: Statistics, no: Statistics) -> Statistics:
    """Choose between two sets of moments."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _float32(observation: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The same shape in float32."""
    return jax.ShapeDtypeStruct(observation.shape, jnp.float32)
