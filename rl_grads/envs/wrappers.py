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
from rl_grads.envs.schema import Wrappers


class Statistics(NamedTuple):
    """Running moments of the observations of one instance.

    Attributes:
        count: Observations seen, an int32 scalar.
        mean: Their mean, float32, in the observation's shape.
        spread: Sum of their squared distances from the mean, likewise.
    """

    count: jax.Array
    mean: jax.Array
    spread: jax.Array


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
        >>> from rl_grads.envs.schema import Wrappers
        >>> stacked = wrap(environment, Wrappers(frame_stack=4))
        >>> stacked.observation.shape  # of an environment with shape (84, 84)
        (84, 84, 4)
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


def evaluated(environment: Environment, state: Any) -> Environment:
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

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
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
        statistics = observe(_no_statistics(environment.observation.shape), obs)
        return Normalised(inner, statistics), seen(statistics)(obs)

    def step(key: jax.Array, state: Normalised, action: jax.Array) -> tuple[Any, Step]:
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

    def step(key: jax.Array, state: Stacked, action: jax.Array) -> tuple[Any, Step]:
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


def observe(statistics: Statistics, obs: jax.Array) -> Statistics:
    """Add one observation to running moments (Welford, 1962).

    Args:
        statistics: Moments of the observations before.
        obs: An observation in the shape of the mean.

    Returns:
        The moments with this observation.
    """
    obs = obs.astype(jnp.float32)
    number = statistics.count + 1
    before = obs - statistics.mean
    mean = statistics.mean + before / number.astype(jnp.float32)
    spread = statistics.spread + before * (obs - mean)
    return Statistics(number, mean, spread)


def merge(statistics: Statistics) -> Statistics:
    """One set of moments from many (Chan, Golub and LeVeque, 1979).

    Args:
        statistics: Moments stacked on a leading axis `[N, ...]`.

    Returns:
        The moments of all their observations together.
    """
    weight = statistics.count.astype(jnp.float32)
    weight = weight.reshape(-1, *[1] * (statistics.mean.ndim - 1))
    mean = jnp.sum(weight * statistics.mean, 0) / jnp.sum(weight, 0)
    between = weight * jnp.square(statistics.mean - mean)
    spread = jnp.sum(statistics.spread + between, 0)
    return Statistics(jnp.sum(statistics.count), mean, spread)


def _no_statistics(shape: tuple[int, ...]) -> Statistics:
    """Moments before the first observation."""
    return Statistics(
        jnp.int32(0), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32)
    )


def _standardised(
    obs: jax.Array, statistics: Statistics, epsilon: float | jax.Array
) -> jax.Array:
    """An observation in units of the running standard deviation."""
    variance = statistics.spread / statistics.count.astype(jnp.float32)
    scaled = (obs.astype(jnp.float32) - statistics.mean) / jnp.sqrt(variance + epsilon)
    return scaled.astype(jnp.float32)


def _frozen(
    environment: Environment, statistics: Statistics, epsilon: float | jax.Array
) -> Environment:
    """Normalise by fixed statistics; the state is the inner one."""

    def scaled(obs: jax.Array) -> jax.Array:
        return _standardised(obs, statistics, epsilon)

    def reset(key: jax.Array) -> tuple[Any, jax.Array]:
        state, obs = environment.reset(key)
        return state, scaled(obs)

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
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
