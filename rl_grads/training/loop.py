"""The compiled part of training: one iteration, and a scan over iterations.

All functions here are about ONE member; `engine` vmaps and shards them. `time` counts
steps per environment. Members move in lockstep, so it is shared and never batched.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import long
from rl_grads.agents.agent import Agent, AgentState, Update
from rl_grads.envs.environment import INSTANCES, Environment
from rl_grads.long import Long
from rl_grads.meta import online
from rl_grads.replay import buffer, memory
from rl_grads.replay.buffer import Experience, SecondDraw
from rl_grads.td.transition import Transition
from rl_grads.training import meta_learning
from rl_grads.training.maybe import Maybe, quotient

Metrics = dict[str, jax.Array]


class Episodes(NamedTuple):
    """Running return and length `[E]`, and the number of finished episodes."""

    reward: Long
    length: jax.Array
    finished: jax.Array


class MemberState(NamedTuple):
    """Everything that one member carries through training.

    Attributes:
        agent: State of the agent.
        environment: States of its environments, `[E, ...]`.
        obs: Observations to act on next, `[E, ...]`.
        memory: Replay memory; None when learning online.
        episodes: What is known of its episodes.
        diverged_at: Environment step of the first non-finite gradient; -1 if none.
        key: Its PRNG key; the keys of iterations are folded out of it.
        meta: What is learned of its config; None where nothing is.
        stretch: What the iterations since the last row add up to (see `chunk`).
    """

    agent: AgentState
    environment: Any
    obs: jax.Array
    memory: memory.Memory | None
    episodes: Episodes
    diverged_at: jax.Array
    key: jax.Array
    meta: online.MetaState | None = None
    stretch: "Stretch | None" = None


class Parts(NamedTuple):
    """What an iteration is made of, built inside the trace from a traced config."""

    agent: Agent
    environment: Environment
    size: buffer.Size | None
    config: Any


class Finished(NamedTuple):
    """Totals over the episodes that ended in some steps."""

    reward: jax.Array
    length: jax.Array
    count: jax.Array


class Stretch(NamedTuple):
    """Iterations since the last row: their number, and the sums of what they report.

    Attributes:
        iterations: How many.
        sums: Of their metrics, a `Long` each, and of their `Finished`, likewise.
    """

    iterations: jax.Array
    sums: tuple[dict[str, Long], "Finished"]


def ring_size(config: Any, environment: Environment) -> buffer.Size | None:
    """Static sizes of the replay ring; None when learning online."""
    if config.replay is None:
        return None
    t, limit = config.training, environment.time_limit
    if limit is None and not environment.resamples:
        limit = config.replay.capacity  # Resuming cuts episodes on the host.
    return buffer.sizes(config.replay.capacity, t.num_envs, t.num_steps, limit)


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


# ------------------------------------------------------------------------ collecting


class Keys(NamedTuple):
    """PRNG keys of one iteration: to act and to step `[T, E]`, to learn `[U]`."""

    act: jax.Array
    step: jax.Array
    learn: jax.Array


def iteration_keys(key: jax.Array, time: jax.Array, training: Any) -> Keys:
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


def _uniform_behaviour(environment: Environment) -> Callable[..., Any]:
    def behaviour(key: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
        action = jax.random.randint(key, (), 0, environment.num_actions)
        return action, jnp.ones(())

    return behaviour


def choose(
    parts: Parts, agent: AgentState, key: jax.Array, obs: jax.Array, state: Any
) -> tuple[jax.Array, jax.Array]:
    """Action and importance ratio in ONE environment."""
    if parts.agent.act is not None:
        return parts.agent.act(agent, key, obs, parts.config), jnp.ones(())
    behaviour = parts.environment.behaviour or _uniform_behaviour(parts.environment)
    return behaviour(key, state)


def draw_again(
    parts: Parts, agent: AgentState, keys: Any, obs: jax.Array, state: Any
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

    def one(agent: AgentState, act: Any, step: Any, state: Any, obs: Any) -> Any:
        action, rho = choose(parts, agent, act, obs, state)
        second = draw_again(parts, agent, (act, step), obs, state)
        return action, rho, second, *parts.environment.step(step, state, action)

    def step(acting: _Acting, keys: Any) -> tuple[_Acting, Any]:
        key_act, key_step = keys
        all_instances = jax.vmap(one, (None, 0, 0, 0, 0), axis_name=INSTANCES)
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
    kept = Episodes(
        jax.tree.map(lambda word: jnp.where(ended, 0.0, word), reward),
        jnp.where(ended, 0, length),
        episodes.finished + count,
    )
    return kept, finished


# -------------------------------------------------------------------------- learning


def transition(experience: Experience, config: Any) -> Transition:
    """What the loss sees: the discount is zero after a termination, and only there."""
    discount_t = config.agent.discount * (1 - experience.terminated)
    made = Transition(*experience[:6], discount_t=discount_t, rho=experience.rho)
    second = experience.second
    if second is None:
        return made
    return made._replace(
        r_t_alt=second.r_t,
        s_t_alt=second.s_t,
        discount_t_alt=config.agent.discount * (1 - second.terminated),
        rho_alt=second.rho,
    )


class _Learning(NamedTuple):
    """The part of a member that learning changes."""

    agent: AgentState
    priorities: memory.Priorities | None


def learn(
    parts: Parts, member: MemberState, time: jax.Array, keys: jax.Array, new: Experience
) -> tuple[MemberState, Metrics]:
    """The updates of one iteration, from replay or from what just happened.

    Metrics are means over the updates. Online, new transitions `[T, E]` are one batch
    in order of time.
    """
    if member.memory is None or parts.size is None:
        agent, report = _update(parts, member.agent, flat(new), None)
        return member._replace(agent=agent), report.metrics
    size, stored = parts.size, member.memory

    def step(learning: _Learning, key: jax.Array) -> tuple[_Learning, Metrics]:
        # The ring is only read here, so it does not ride in the carry.
        kept = stored._replace(priorities=learning.priorities)
        drawn = memory.sample(kept, size, time, key, parts.config)
        agent, report = _update(parts, learning.agent, drawn.experience, drawn.weights)
        scored = (drawn.slots, report.signals, parts.config, drawn.lost)
        kept = memory.prioritise(kept, *scored)
        return _Learning(agent, kept.priorities), report.metrics

    start = _Learning(member.agent, stored.priorities)
    end, metrics = jax.lax.scan(step, start, keys)
    kept = stored._replace(priorities=end.priorities)
    means = jax.tree.map(lambda x: x.mean(0), metrics)
    return member._replace(agent=end.agent, memory=kept), means


def flat(new: Experience) -> Experience:
    """Transitions `[T, E, ...]` as one batch."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), new)


def meta_learn(
    parts: Parts,
    configure: Callable[[Any], Any],
    member: MemberState,
    time: jax.Array,
    keys: jax.Array,
    new: Experience,
) -> tuple[MemberState, Metrics]:
    """As `learn`, with outer updates of what is learned of the config.

    `configure` makes the config of this moment from learned numbers.
    """
    assert member.meta is not None
    the = meta_learning.Training(parts.agent, parts.config, configure, transition)
    if member.memory is None or parts.size is None:
        out = meta_learning.from_stream(the, member.agent, member.meta, flat(new))
    else:
        source = meta_learning.Replayed(member.memory, parts.size, time)
        out = meta_learning.from_replay(the, member.agent, member.meta, source, keys)
    member = member._replace(agent=out.agent, meta=out.meta, memory=out.memory)
    return member, out.metrics


def _update(
    parts: Parts, agent: AgentState, batch: Experience, weights: jax.Array | None
) -> tuple[AgentState, Update]:
    # Ordinary training never differentiates through an update: the one stop is here.
    agent = jax.lax.stop_gradient(agent)
    return parts.agent.update(
        agent, transition(batch, parts.config), weights, parts.config
    )


# ------------------------------------------------------------------------- iterations


def progress(training: Any, time: jax.Array) -> jax.Array:
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
    configure = functools.partial(meta_learning.configure, parts.config, part)
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


def store(
    parts: Parts, member: MemberState, time: jax.Array, new: Experience
) -> MemberState:
    """Put new transitions into the replay memory, where there is one."""
    if member.memory is None or parts.size is None:
        return member
    kept = memory.add(member.memory, parts.size, time, new, member.obs, parts.config)
    return member._replace(memory=kept)


def _is_active(member: MemberState, training: Any) -> jax.Array:
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
    training: Any,
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

    def step(_: Any, carry: tuple[jax.Array, MemberState]) -> Any:
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
    learned = {}
    if member.meta is not None:
        learned = online.metrics(parts.config, member.meta.real)
    rest = _episode_metrics(member, finished) | _replay_metrics(parts, member, time)
    return member, {**means, **rest, **learned}


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

    def step(_: Any, carry: tuple[jax.Array, MemberState]) -> Any:
        time, member = carry
        keys = iteration_keys(member.key, time, parts.config.training)
        member, new, _ = collect(parts, member, keys)
        member = store(parts, member, time, new)
        return time + parts.config.training.num_steps, member

    return jax.lax.fori_loop(0, iterations, step, (time, member))[1]
