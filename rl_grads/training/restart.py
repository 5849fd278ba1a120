"""Host environments cannot be saved: how a resumed run goes on with fresh ones."""

import jax
import jax.numpy as jnp

from rl_grads.envs.moments import Statistics
from rl_grads.replay import buffer
from rl_grads.training.member import MemberState, Parts


def restart(
    parts: Parts, saved: MemberState, fresh: MemberState, time: jax.Array | int
) -> MemberState:
    """A saved member in the environments of a fresh one, at `time`.

    Its unfinished episodes are cut: in the replay memory they are truncated, and they
    count neither as returns nor as finished. The agent's trace, which belongs to them,
    is forgotten. Observation statistics are kept.
    """
    memory, episodes = saved.memory, saved.episodes
    if memory is not None and parts.size is not None:
        ring = buffer.cut(memory.ring, parts.size, jnp.asarray(time), fresh.obs)
        memory = memory._replace(ring=ring)
    environment = jax.tree.map(
        lambda old, new: old if isinstance(old, Statistics) else new,
        saved.environment,
        fresh.environment,
        is_leaf=lambda node: isinstance(node, Statistics),
    )
    return saved._replace(
        agent=saved.agent._replace(trace=fresh.agent.trace),
        environment=environment,
        obs=fresh.obs,
        memory=memory,
        episodes=fresh.episodes._replace(finished=episodes.finished),
    )
