"""The replay memory: a ring, and priorities over its slots where a config wants them.

What a priority is made of says `rl_grads.replay.priorities`. Bad scores do no harm: one
that is negative or not finite leaves a transition the priority it had. A priority of
zero counts as 1e-30: beside any other it is not drawn, and where all are zero the draw
is uniform, with weights of one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rl_grads import register
from rl_grads.replay import blocked_sums, buffer, priorities, ranking
from rl_grads.replay.blocked_sums import BlockedSums
from rl_grads.replay.buffer import Experience, Ring, Size
from rl_grads.replay.ranking import Ranking
from rl_grads.replay.samplers import Stored
from rl_grads.training.schema import Config, replay_of
from rl_grads.typing import PyTree

_LEAST = 1e-30


class Priorities(NamedTuple):
    """What is known of the priorities of what is stored.

    Attributes:
        tree: Priorities, to the power of the exponent.
        largest: Running maximum, 1 at first, of the priorities to the power of the
            exponent (of the scores where ranks are kept); new transitions get it.
        ranking: Scores and their order, where ranks are kept, else None.
    """

    tree: BlockedSums
    largest: jax.Array
    ranking: Ranking | None


class Memory(NamedTuple):
    """State of the replay memory of one member; without priorities draws uniformly."""

    ring: Ring
    priorities: Priorities | None


class Sample(NamedTuple):
    """A batch.

    Attributes:
        experience: Transitions, `[B, ...]`.
        slots: Where they lie, `[B]`; of one that others stand for, where it was drawn.
        weights: Their importance weights, `[B]`; None without priorities.
        ratio: Probability of each over that of a uniform draw, `[B]`; None likewise.
        lost: Which slots others stand for, `[B]`, see `buffer.draw_whole`.
    """

    experience: Experience
    slots: jax.Array
    weights: jax.Array | None = None
    ratio: jax.Array | None = None
    lost: jax.Array | None = None


def create(size: Size, obs: jax.Array, dtype: DTypeLike, config: Config) -> Memory:
    """An empty memory that starts at the observations `obs`, `[E, ...]`."""
    ring = buffer.create(size, obs, dtype)
    keeps, slots = priorities.scheme(config).keeps, size.rows * size.num_envs
    if keeps == "nothing":
        return Memory(ring, None)
    table = Priorities(
        tree=blocked_sums.create(slots),
        largest=jnp.ones((), jnp.float32),
        ranking=ranking.create(slots) if keeps == "ranks" else None,
    )
    return Memory(ring, table)


# ---------------------------------------------------------------------------- storing


def add(
    memory: Memory,
    size: Size,
    time: jax.Array,
    new: Experience,
    obs: jax.Array,
    config: Config,
) -> Memory:
    """Store new transitions, at the largest priority so far; none if not whole."""
    ring = buffer.add(memory.ring, size, time, new, obs)
    if memory.priorities is None:
        return Memory(ring, None)
    whole = jnp.ones_like(new.truncated)
    if ring.final_obs is None:
        whole = ~new.truncated
    table = _entered(memory.priorities, size, time, jnp.ravel(whole), config)
    if table.ranking is not None:
        turn, done = size.rows // size.num_steps, time // size.num_steps
        due = ranking.is_due(turn, done)
        table = jax.lax.cond(due, lambda k: _sorted(k, config), lambda k: k, table)
    return Memory(ring, table)


def _entered(
    table: Priorities, size: Size, time: jax.Array, whole: jax.Array, config: Config
) -> Priorities:
    """The newest block of slots comes in; the next one to be written goes out."""
    count = size.num_steps * size.num_envs
    start = (time % size.rows) * size.num_envs
    retired = (time + size.num_steps) % size.rows * size.num_envs
    block = jnp.arange(count)
    slots = jnp.concatenate([retired + block, start + block])
    entering = jnp.concatenate([jnp.zeros_like(whole), whole])
    if table.ranking is None:
        return _put(table, slots, jnp.where(entering, table.largest, 0.0))
    return _put_ranks(table, slots, jnp.where(entering, table.largest, -1.0), config)


def _put(table: Priorities, slots: jax.Array, powered: jax.Array) -> Priorities:
    return table._replace(tree=blocked_sums.put(table.tree, slots, powered))


def _put_ranks(
    table: Priorities, slots: jax.Array, scores: jax.Array, config: Config
) -> Priorities:
    assert table.ranking is not None
    powered = _of_ranks(ranking.rank(table.ranking, scores), config)
    table = table._replace(ranking=ranking.record(table.ranking, slots, scores))
    return _put(table, slots, powered)


def _of_ranks(ranks: jax.Array, config: Config) -> jax.Array:
    """`rank ** -exponent`, zero where nothing is stored."""
    powered = jnp.maximum(ranks ** -replay_of(config).exponent, _LEAST)
    return jnp.where(jnp.isinf(ranks), 0.0, powered)


def _sorted(table: Priorities, config: Config) -> Priorities:
    assert table.ranking is not None
    order, ranks = ranking.sort(table.ranking)
    tree = blocked_sums.build(_of_ranks(ranks, config))
    return table._replace(tree=tree, ranking=order)


# ---------------------------------------------------------------------------- drawing


def sample(
    memory: Memory, size: Size, time: jax.Array, key: jax.Array, config: Config
) -> Sample:
    """Draw transitions after `time` steps, which are >= 1.

    `training.batch_size` of them; where the estimator resamples, `replay.large_batch`
    times as many.
    """
    batch_size = config.training.batch_size
    if priorities.scheme(config).resamples:
        batch_size *= replay_of(config).large_batch
    ring, table = memory.ring, memory.priorities

    def draw(key: jax.Array, count: int) -> jax.Array:
        name = replay_of(config).sampler
        if name is not None:
            own = register.get("sampler", name)
            return own(key, Stored(size, time), count, config)
        if table is None:
            return buffer.draw_uniform(key, size, time, count)
        return blocked_sums.draw(key, table.tree, count)

    drawn = buffer.draw_whole(draw, key, ring, size, batch_size)
    found = Sample(
        buffer.take(ring, size, drawn.slots), slots=drawn.first, lost=drawn.lost
    )
    if table is None:
        return found
    priority = blocked_sums.get(table.tree, drawn.slots)
    ratio = buffer.available(size, time) * priority / blocked_sums.total(table.tree)
    weights = priorities.importance_weights(ratio, 1, replay_of(config).importance)
    # A priority may be as large as all others: a batch of one that is lost weighs 0.
    weights = jnp.where(drawn.found, weights, 0.0)
    return found._replace(weights=weights, ratio=ratio)


# ------------------------------------------------------------------------- prioritising


def prioritise(
    memory: Memory,
    slots: jax.Array,
    signals: PyTree,
    config: Config,
    lost: jax.Array | None = None,
) -> Memory:
    """Give the transitions in `slots` the priorities that their signals deserve.

    Those that are `lost` get none, and are not drawn again. A ValueError where the
    estimator should have chosen a batch out of a large one, and did not.
    """
    if memory.priorities is None:
        _check_resampled(signals, config)
        return memory
    table = memory.priorities
    scores = priorities.scheme(config)(signals, config).astype(jnp.float32)
    if table.ranking is None:
        new = priorities.raised(scores, replay_of(config).exponent)
        old = blocked_sums.get(table.tree, slots)
    else:
        new, old = priorities.raised(scores, 1.0), table.ranking.scores[slots]
    new = jnp.where(jnp.isnan(new), old, new)
    table = table._replace(largest=jnp.maximum(table.largest, jnp.max(new)))
    lost = jnp.zeros_like(new, bool) if lost is None else lost
    if table.ranking is None:
        new = jnp.where(lost, 0.0, jnp.maximum(new, _LEAST))
        return memory._replace(priorities=_put(table, slots, new))
    new = jnp.where(lost, -1.0, new)
    return memory._replace(priorities=_put_ranks(table, slots, new, config))


def _check_resampled(signals: PyTree, config: Config) -> None:
    scheme, wanted = priorities.scheme(config), config.training.batch_size
    if scheme.resamples and len(signals.td_error) != wanted:
        raise ValueError(
            f"replay.priority={replay_of(config).priority}: expected an estimator that "
            f"chooses {wanted} of {len(signals.td_error)} examples, such as "
            "rl_grads.gradients.resampling.resampled"
        )
