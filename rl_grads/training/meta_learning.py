"""Meta-learning of ONE member during training: online cross-validation.

The inner updates see their batches as in ordinary training; the outer loss sees the
next one, at its own discount (Xu et al. 2018). With replay all are drawn from it, K
inner ones and an outer one at a time, and priorities follow after the K. Without, each
new batch is the outer one of the update before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import config as configs
from rl_grads.agents.agent import Agent
from rl_grads.gradients.estimators import About, weighted_losses
from rl_grads.meta import online
from rl_grads.meta.estimate import Task
from rl_grads.meta.estimators import from_settings
from rl_grads.meta.inner import Batch, Problem, problem
from rl_grads.replay import memory
from rl_grads.replay.buffer import Experience, Size
from rl_grads.td.transition import Transition
from rl_grads.training.meta_sampling import weigher
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree, State

Metrics = dict[str, jax.Array]

# Folded into the key of a group's first draw; no draw has this number.
_OUTER = 0x6D657461


class Training(NamedTuple):
    """What meta-learning needs of the program around it.

    Attributes:
        agent: The agent.
        config: At this moment, learned numbers in it.
        configure: The same from learned numbers on the real line, or from None: the
            numbers as they were given.
        transition: `transition(experience, config)` makes what a loss sees.
    """

    agent: Agent
    config: Any
    configure: Callable[[Any], Any]
    transition: Callable[[Any, Any], Any]


def make_problem(program: Training) -> Problem:
    """The inner loop of an agent's own updates and the outer loss.

    The outer loss is the agent's loss with numbers as they were given, at
    `meta.outer_discount`. Its bootstrap is held constant, as in any semi-gradient.
    """
    given = program.configure(None)
    discount = given.meta.outer_discount
    outer = given
    if discount is not None:
        outer = configs.replace(given, {"agent.discount": discount})

    def outer_loss(state: State, data: Batch) -> jax.Array:
        bootstrap = state.params if state.target_params is None else state.target_params
        bootstrap = jax.lax.stop_gradient(bootstrap)
        seen = _with_action(program.agent, state, data.transitions, outer)
        given = (program.agent.loss, state.params, bootstrap, seen, data.weights, outer)
        return jnp.mean(weighted_losses(About(*given))[0])

    weigh = weigher(program.agent, given.meta.sampling)
    posed = problem(
        program.agent.update, outer_loss, program.configure, program.transition, weigh
    )

    def prepared(state: State, data: Batch) -> jax.Array:
        seen = program.transition(data.transitions, outer)
        return posed.loss(state, data._replace(transitions=seen))

    return posed._replace(loss=prepared)


def _with_action(
    agent: Agent, state: State, batch: Transition, config: Config
) -> Transition:
    """The batch with the agent's next action, for losses that are on-policy in it."""
    if agent.act is None:
        return batch
    still = jax.lax.stop_gradient(state)
    keys = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(state.key, _OUTER), state.updates),
        batch.r_t.shape[0],
    )
    a_t = jax.vmap(agent.act, (None, 0, 0, None))(still, keys, batch.s_t, config)
    return batch._replace(a_t=a_t)


# -------------------------------------------------------------------------- from replay


class _Learning(NamedTuple):
    """What the groups of updates carry."""

    agent: Any
    meta: online.MetaState
    priorities: memory.Priorities | None


class Replayed(NamedTuple):
    """Where batches come from: a memory, its sizes, and the time."""

    memory: memory.Memory
    size: Size
    time: jax.Array


class Learnt(NamedTuple):
    """What the updates of an iteration leave behind."""

    agent: Any
    meta: online.MetaState
    memory: memory.Memory | None
    metrics: Metrics


def from_replay(
    program: Training,
    agent: PyTree,
    meta: online.MetaState,
    source: Replayed,
    keys: jax.Array,
) -> Learnt:
    """The updates of one iteration, an outer one after every `meta.steps`.

    Args:
        the: The program around.
        agent: State of the agent.
        meta: State of meta-learning.
        source: The replay memory.
        keys: One per inner update.
    """
    steps = program.config.meta.steps
    groups = keys.reshape(-1, steps)

    def group(learning: _Learning, keys: jax.Array) -> tuple[_Learning, Metrics]:
        replay = source.memory._replace(priorities=learning.priorities)
        drawn, data = _draw(program.config, source._replace(memory=replay), keys)
        batches = Batch(drawn.experience, drawn.weights, drawn.ratio)
        task = Task({}, learning.agent, batches, data, keys[0])
        out = online.update(program.config, learning.meta, make_problem(program), task)
        replay = _prioritise(replay, drawn, out.estimate.reports, program.config)
        means = jax.tree.map(lambda x: x.mean(0), out.estimate.reports.metrics)
        moved = _Learning(out.estimate.state, out.meta, replay.priorities)
        return moved, means | out.metrics

    start = _Learning(agent, meta, source.memory.priorities)
    end, metrics = jax.lax.scan(group, start, groups)
    means = jax.tree.map(lambda x: x.mean(0), metrics)
    replay = source.memory._replace(priorities=end.priorities)
    return Learnt(end.agent, end.meta, replay, means)


def _draw(
    config: Config, source: Replayed, keys: jax.Array
) -> tuple[memory.Sample, Batch]:
    """Batches of the inner updates `[K, B, ...]`, and one for the outer loss."""
    further = from_settings(config.meta).further
    more = jax.random.split(jax.random.fold_in(keys[0], _OUTER), further + 1)
    every = jnp.concatenate([keys, more])

    def sample(key: jax.Array) -> memory.Sample:
        return memory.sample(source.memory, source.size, source.time, key, config)

    drawn = jax.vmap(sample)(every)
    inner, outer = (jax.tree.map(lambda x, a=a: x[a], drawn) for a in (slice(-1), -1))
    return inner, Batch(outer.experience, outer.weights)


def _prioritise(
    replay: memory.Memory, drawn: memory.Sample, reports: PyTree, config: Config
) -> memory.Memory:
    """Priorities from the signals of the K updates, one after the other."""
    count = reports.signals.td_error.shape[0]

    def prioritise_batch(
        replay: memory.Memory, k: jax.Array
    ) -> tuple[memory.Memory, None]:
        slots, lost, signals = jax.tree.map(
            lambda x: x[k], (drawn.slots, drawn.lost, reports.signals)
        )
        return memory.prioritise(replay, slots, signals, config, lost), None

    return jax.lax.scan(prioritise_batch, replay, jnp.arange(count))[0]


# ------------------------------------------------------------------------------- online


class Previous(NamedTuple):
    """The agent before the last update, and the batch that it saw."""

    agent: Any
    experience: Any


def first(agent: PyTree, experience: Experience) -> Previous:
    """What stands for the last update before there was one: a batch of zeros."""
    return Previous(
        agent, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), experience)
    )


def from_stream(
    program: Training, agent: PyTree, meta: online.MetaState, experience: Experience
) -> Learnt:
    """The one update of an iteration, after an outer update for the one before.

    Args:
        the: The program around.
        agent: State of the agent.
        meta: State of meta-learning.
        experience: The new batch, `[B, ...]`.
    """
    before = meta.previous
    batches = jax.tree.map(lambda x: x[None], Batch(before.experience))
    task = Task({}, before.agent, batches, Batch(experience), agent.key)
    task = task._replace(key=jax.random.fold_in(agent.key, agent.updates))
    out = online.update(program.config, meta, make_problem(program), task)
    # Not > 0: behind 2**31 updates the count goes on at -2**31.
    moved = online.choose(agent.updates != 0, out.meta, meta)
    config = program.configure(moved.real)
    new, report = program.agent.update(
        agent, program.transition(experience, config), None, config
    )
    moved = moved._replace(previous=Previous(agent, experience))
    return Learnt(new, moved, None, report.metrics | out.metrics)
