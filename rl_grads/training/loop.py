"""The compiled part of training: one iteration, and a scan over iterations.

All functions here are about ONE member; `engine` vmaps and shards them. `time` counts
steps per environment. Members move in lockstep, so it is shared and never batched."""

import functools

import jax
import jax.numpy as jnp

from rl_grads import long
from rl_grads.envs.environment import INSTANCES
from rl_grads.meta import learned, online
from rl_grads.replay import buffer, memory
from rl_grads.training import meta_learning
from rl_grads.training.collecting import collect, iteration_keys, store
from rl_grads.training.learning import flat, learn, meta_learn
from rl_grads.training.maybe import Maybe, quotient
from rl_grads.training.member import (
    Episodes,
    Finished,
    MemberState,
    Metrics,
    Parts,
    Stretch,
    Unusable,
)
from rl_grads.typing import PyTree


def init(parts: Parts, key: jax.Array) -> MemberState:
    """The state of one member before its first step."""
    num_envs = parts.config.training.num_envs
    key_agent, key_envs, key = jax.random.split(key, 3)
    reset = jax.vmap(parts.environment.reset, axis_name=INSTANCES)
    environment, obs = reset(jax.random.split(key_envs, num_envs))
    zeros = jnp.zeros(num_envs)
    member = MemberState(
        agent=parts.agent.init(key_agent, obs[0], parts.config),
        environment=environment,
        obs=obs,
        memory=_memory(parts, obs),
        episodes=Episodes(
            long.zero(zeros), jnp.zeros(num_envs, jnp.int32), jnp.int32(0)
        ),
        diverged_at=jnp.int32(-1),
        unusable=Unusable(jnp.int32(-1), jnp.int32(-1)),
        key=key,
    )
    return member._replace(meta=_meta(parts, member))


def begin(parts: Parts, key: jax.Array) -> MemberState:
    """The state of `init`, with an empty stretch: what `chunk` takes."""
    member = init(parts, key)
    _, *reported = jax.eval_shape(lambda: iterate(parts, member, jnp.int32(0)))
    sums = jax.tree.map(long.zero, tuple(reported))
    return member._replace(stretch=Stretch(jnp.int32(0), sums))


def _meta(parts: Parts, member: MemberState) -> online.MetaState | None:
    meta = online.init(parts.config, member.agent)
    if meta is None or parts.size is not None:
        return meta
    keys = iteration_keys(member.key, jnp.int32(0), parts.config.training)
    new = jax.eval_shape(lambda: flat(collect(parts, member, keys)[1]))
    return meta._replace(previous=meta_learning.first(member.agent, new))


def _memory(parts: Parts, obs: jax.Array) -> memory.Memory | None:
    if parts.size is None:
        return None
    return memory.create(parts.size, obs, jnp.result_type(float), parts.config)


def progress(training: PyTree, time: jax.Array) -> jax.Array:
    """The part of all schedules that has passed, at most 1.

    Args:
        training: The section `training` of a config.
        time: Steps per environment so far.

    Example:
        >>> from rl_grads.training.schema import Training
        >>> float(progress(Training(total_steps=1000, num_envs=4), jnp.int32(125)))
        0.5
    """
    steps = training.schedule_steps or training.total_steps
    return jnp.minimum(time * (training.num_envs / steps), 1.0)


def iterate(
    parts: Parts, member: MemberState, time: jax.Array
) -> tuple[MemberState, Metrics, Finished]:
    """One iteration: collect, store, learn; members that stopped keep their agent."""
    training = parts.config.training
    part = progress(training, time)
    configure = functools.partial(learned.current, parts.config, part)
    parts = parts._replace(config=configure(member.meta and member.meta.real))
    keys = iteration_keys(member.key, time, training)
    moved, new, finished = collect(parts, member, keys)
    moved = store(parts, moved, time, new)
    after = time + training.num_steps
    update = functools.partial(learn, parts)
    if member.meta is not None:
        update = functools.partial(meta_learn, parts, configure)
    learnt, metrics = update(moved, after, keys.learn, new)
    env_steps = after * training.num_envs
    return _guard(learnt, member, metrics, env_steps, training), metrics, finished


def _is_active(member: MemberState, training: PyTree) -> jax.Array:
    active = jnp.bool_(True)
    if training.nonfinite_guard:
        active &= member.diverged_at < 0
    if training.total_episodes is not None:
        active &= member.episodes.finished < training.total_episodes
    return active


def _guard(
    new: MemberState,
    old: MemberState,
    metrics: Metrics,
    env_steps: jax.Array,
    training: PyTree,
) -> MemberState:
    """Note the first non-finite gradient; keep the agent of a member that stopped."""
    active, finite = _is_active(old, training), jnp.isfinite(metrics["gradient/norm"])
    first = active & ~finite & (old.diverged_at < 0)
    diverged_at = jnp.where(first, env_steps, old.diverged_at).astype(jnp.int32)
    new = new._replace(diverged_at=diverged_at)
    if not training.nonfinite_guard and training.total_episodes is None:
        return new
    move = active & finite if training.nonfinite_guard else active
    agent, meta = online.choose(move, (new.agent, new.meta), (old.agent, old.meta))
    return new._replace(agent=agent, meta=meta)


def chunk(
    parts: Parts,
    member: MemberState,
    time: jax.Array,
    iterations: jax.Array,
    first: jax.Array,
) -> tuple[MemberState, dict[str, jax.Array | Maybe]]:
    """`iterations` iterations from `time`, and the mean metrics of their stretch.

    A stretch may be run in several calls: its sums ride in the state and are added to
    in the same order, so that its means are the same bits. `first` begins a new one.
    The number of iterations is an input too, so one program serves every stretch.
    """

    def step(_: PyTree, carry: tuple[jax.Array, MemberState]) -> PyTree:
        time, member = carry
        assert member.stretch is not None
        count, sums = member.stretch
        moved, *reported = iterate(parts, member, time)
        stretch = Stretch(count + 1, long.plus_each(sums, tuple(reported)))
        return time + parts.config.training.num_steps, moved._replace(stretch=stretch)

    stretch = jax.tree.map(lambda x: jnp.where(first, 0, x), member.stretch)
    start = (time, member._replace(stretch=stretch))
    time, member = jax.lax.fori_loop(0, iterations, step, start)
    assert member.stretch is not None
    count, sums = member.stretch
    metrics, finished = long.high(sums)
    means = {name: value / count for name, value in metrics.items()}
    values = {}
    if member.meta is not None:
        values = online.metrics(parts.config, member.meta.real)
    rest = _episode_metrics(member, finished) | _replay_metrics(parts, member, time)
    return member, {**means, **rest, **values}


def _replay_metrics(
    parts: Parts, member: MemberState, time: jax.Array
) -> dict[str, jax.Array]:
    """What the memory leaves out, unless it keeps all final observations there are."""
    size = parts.size
    if size is None or member.memory is None or size.side >= size.rows:
        return {}
    left_out = buffer.part_left_out(member.memory.ring, size, time)
    return {"replay/left_out": left_out}


def _episode_metrics(
    member: MemberState, finished: Finished
) -> dict[str, jax.Array | Maybe]:
    return {
        "training/return": quotient(finished.reward, finished.count),
        "training/length": quotient(finished.length, finished.count),
        "training/episodes": member.episodes.finished,
        "training/diverged": member.diverged_at >= 0,
    }


def warm_up(
    parts: Parts, member: MemberState, time: jax.Array, iterations: jax.Array
) -> MemberState:
    """Fill the replay memory by acting without learning, at the initial epsilon."""

    def step(_: PyTree, carry: tuple[jax.Array, MemberState]) -> PyTree:
        time, member = carry
        keys = iteration_keys(member.key, time, parts.config.training)
        member, new, _ = collect(parts, member, keys)
        member = store(parts, member, time, new)
        return time + parts.config.training.num_steps, member

    return jax.lax.fori_loop(0, iterations, step, (time, member))[1]
