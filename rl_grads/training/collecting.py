"""ONE member acts in its environments, and stores what it has seen.

`time` counts steps per environment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import long
from rl_grads.agents.agent import AgentState
from rl_grads.envs.environment import INSTANCES, Environment
from rl_grads.replay import memory
from rl_grads.replay.buffer import Experience, SecondDraw
from rl_grads.training.member import (
    Episodes,
    Finished,
    MemberState,
    Parts,
    Unusable,
)
from rl_grads.training.schema import Training
from rl_grads.typing import Function, Observation, PyTree, State


class Keys(NamedTuple):
    """PRNG keys of one iteration: to act and to step `[T, E]`, to learn `[U]`."""

    act: jax.Array
    step: jax.Array
    learn: jax.Array


def iteration_keys(key: jax.Array, time: jax.Array, training: Training) -> Keys:
    """All keys of the iteration at `time`, by one split: splits are not cheap."""
    grid = (training.num_steps, training.num_envs)
    count = grid[0] * grid[1]
    keys = jax.random.split(
        jax.random.fold_in(key, time), 2 * count + training.updates_per_iteration
    )
    return Keys(
        act=keys[:count].reshape(grid),
        step=keys[count : 2 * count].reshape(grid),
        learn=keys[2 * count :],
    )


def _uniform_behaviour(environment: Environment) -> Function:
    def behaviour(key: jax.Array, state: State) -> tuple[jax.Array, jax.Array]:
        action = jax.random.randint(key, (), 0, environment.num_actions)
        return action, jnp.ones(())

    return behaviour


def choose(
    parts: Parts, agent: AgentState, key: jax.Array, obs: jax.Array, state: State
) -> tuple[jax.Array, jax.Array]:
    """Action and importance ratio in ONE environment."""
    if parts.agent.act is not None:
        return parts.agent.act(agent, key, obs, parts.config), jnp.ones(())
    behaviour = parts.environment.behaviour or _uniform_behaviour(parts.environment)
    return behaviour(key, state)


def draw_again(
    parts: Parts, agent: AgentState, keys: PyTree, obs: jax.Array, state: State
) -> SecondDraw | None:
    """A second draw of action and outcome in ONE environment, where the agent needs it.

    `keys` are those to act and to step of the first draw.
    """
    if not parts.agent.double_sampling:
        return None
    act, step = (jax.random.fold_in(key, 1) for key in keys)
    action, rho = choose(parts, agent, act, obs, state)
    out = parts.environment.step(step, state, action)[1]
    return SecondDraw(out.reward, out.final_obs, out.terminated, rho)


class _Acting(NamedTuple):
    """The part of a member that acting changes."""

    environment: Any
    obs: jax.Array
    episodes: Episodes


def collect(
    parts: Parts, member: MemberState, keys: Keys
) -> tuple[MemberState, Experience, Finished]:
    """Act for `num_steps` in every environment; experience is `[T, E, ...]`."""

    def act_and_step(
        agent: AgentState, act: PyTree, step: PyTree, state: State, obs: Observation
    ) -> PyTree:
        action, rho = choose(parts, agent, act, obs, state)
        second = draw_again(parts, agent, (act, step), obs, state)
        return action, rho, second, *parts.environment.step(step, state, action)

    def step(acting: _Acting, keys: PyTree) -> tuple[_Acting, PyTree]:
        key_act, key_step = keys
        all_instances = jax.vmap(act_and_step, (None, 0, 0, 0, 0), axis_name=INSTANCES)
        action, rho, second, state, out = all_instances(
            member.agent, key_act, key_step, acting.environment, acting.obs
        )
        experience = Experience(
            s_tm1=acting.obs,
            a_tm1=action,
            r_t=out.reward,
            s_t=out.final_obs,
            terminated=out.terminated,
            truncated=out.truncated & ~out.terminated,
            rho=rho,
            second=second,
        )
        episodes, finished = _count(acting.episodes, experience)
        return _Acting(state, out.obs, episodes), (experience, finished)

    start = _Acting(member.environment, member.obs, member.episodes)
    end, (experience, finished) = jax.lax.scan(step, start, (keys.act, keys.step))
    member = member._replace(**end._asdict())
    return member, experience, jax.tree.map(lambda x: x.sum(0), finished)


def _count(episodes: Episodes, new: Experience) -> tuple[Episodes, Finished]:
    reward = long.plus(episodes.reward, new.r_t)
    length = episodes.length + 1
    ended = new.terminated | new.truncated
    count = jnp.sum(ended, dtype=jnp.int32)
    finished = Finished(
        jnp.sum(jnp.where(ended, reward.high, 0.0)),
        jnp.sum(jnp.where(ended, length, 0)),
        count,
    )
    counted = Episodes(
        jax.tree.map(lambda word: jnp.where(ended, 0.0, word), reward),
        jnp.where(ended, 0, length),
        episodes.finished + count,
    )
    return counted, finished


def store(
    parts: Parts, member: MemberState, time: jax.Array, new: Experience
) -> MemberState:
    """Put new transitions into the replay memory, where there is one; note what of
    them is not finite."""
    training = parts.config.training
    after = (time + training.num_steps) * training.num_envs
    member = member._replace(unusable=_unusable(member.unusable, new, after))
    if member.memory is None or parts.size is None:
        return member
    added = memory.add(member.memory, parts.size, time, new, member.obs, parts.config)
    return member._replace(memory=added)


def _unusable(before: Unusable, new: Experience, env_steps: jax.Array) -> Unusable:
    """The first step so far, by what was not finite in it."""

    def first(at: jax.Array, x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return at
        bad = (at < 0) & ~jnp.all(jnp.isfinite(x))
        return jnp.where(bad, env_steps, at).astype(jnp.int32)

    return Unusable(first(before.reward, new.r_t), first(before.observation, new.s_t))
