"""What ONE member of a population is made of, and what it carries through training."""

from typing import Any, NamedTuple

import jax

from rl_grads.agents.agent import Agent, AgentState
from rl_grads.envs.environment import Environment
from rl_grads.long import Long
from rl_grads.meta import online
from rl_grads.replay import buffer, memory
from rl_grads.training.schema import Config

Metrics = dict[str, jax.Array]


class Episodes(NamedTuple):
    """Running return and length `[E]`, and the number of finished episodes."""

    reward: Long
    length: jax.Array
    finished: jax.Array


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


class Unusable(NamedTuple):
    """Environment step of the first one that was not finite; -1 if none."""

    reward: jax.Array
    observation: jax.Array


class MemberState(NamedTuple):
    """Everything that one member carries through training.

    Attributes:
        agent: State of the agent.
        environment: States of its environments, `[E, ...]`.
        obs: Observations to act on next, `[E, ...]`.
        memory: Replay memory; None when learning online.
        episodes: What is known of its episodes.
        diverged_at: Environment step of the first non-finite gradient; -1 if none.
        unusable: Likewise of what the environment gave.
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
    unusable: Unusable
    key: jax.Array
    meta: online.MetaState | None = None
    stretch: "Stretch | None" = None


class Parts(NamedTuple):
    """What an iteration is made of, built inside the trace from a traced config."""

    agent: Agent
    environment: Environment
    size: buffer.Size | None
    config: Any


def ring_size(config: Config, environment: Environment) -> buffer.Size | None:
    """Static sizes of the replay ring; None when learning online."""
    if config.replay is None:
        return None
    t, limit = config.training, environment.time_limit
    if limit is None and not environment.resamples:
        limit = config.replay.capacity  # Resuming cuts episodes on the host.
    return buffer.sizes(config.replay.capacity, t.num_envs, t.num_steps, limit)
