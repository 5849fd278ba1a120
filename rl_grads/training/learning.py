"""ONE member learns from what it has stored, or from what has just happened."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from rl_grads.agents.agent import AgentState, Update
from rl_grads.replay import memory
from rl_grads.replay.buffer import Experience
from rl_grads.td.transition import Transition
from rl_grads.training import meta_learning
from rl_grads.training.member import MemberState, Metrics, Parts
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree


def transition(experience: Experience, config: Config) -> Transition:
    """What the loss sees: the discount is zero after a termination, and only there."""
    discount_t = config.agent.discount * (1 - experience.terminated)
    first = Transition(*experience[:6], discount_t=discount_t, rho=experience.rho)
    second = experience.second
    if second is None:
        return first
    return first._replace(
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
        replay = stored._replace(priorities=learning.priorities)
        drawn = memory.sample(replay, size, time, key, parts.config)
        agent, report = _update(parts, learning.agent, drawn.experience, drawn.weights)
        scored = (drawn.slots, report.signals, parts.config, drawn.lost)
        replay = memory.prioritise(replay, *scored)
        return _Learning(agent, replay.priorities), report.metrics

    start = _Learning(member.agent, stored.priorities)
    end, metrics = jax.lax.scan(step, start, keys)
    replay = stored._replace(priorities=end.priorities)
    means = jax.tree.map(lambda x: x.mean(0), metrics)
    return member._replace(agent=end.agent, memory=replay), means


def flat(new: Experience) -> Experience:
    """Transitions `[T, E, ...]` as one batch."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), new)


def meta_learn(
    parts: Parts,
    configure: Callable[[PyTree], PyTree],
    member: MemberState,
    time: jax.Array,
    keys: jax.Array,
    new: Experience,
) -> tuple[MemberState, Metrics]:
    """As `learn`, with outer updates of what is learned of the config.

    `configure` makes the config of this moment from learned numbers.
    """
    assert member.meta is not None
    program = meta_learning.Training(parts.agent, parts.config, configure, transition)
    if member.memory is None or parts.size is None:
        out = meta_learning.from_stream(program, member.agent, member.meta, flat(new))
    else:
        source = meta_learning.Replayed(member.memory, parts.size, time)
        out = meta_learning.from_replay(
            program, member.agent, member.meta, source, keys
        )
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
