"""Ranks of scores among all that is stored (Schaul et al. 2016, section 3.3).

All scores are sorted now and then; in between, a new score takes its rank among those
of the last sort, which is a binary search.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SORTS_PER_DOUBLING = 16  # While the ring fills; then 16 to 32 per turn.
_ABSENT = -1.0


class Ranking(NamedTuple):
    """Scores `[slots]`, -1 where nothing is stored, and their last sort, ascending."""

    scores: jax.Array
    order: jax.Array


def create(slots: int) -> Ranking:
    """A ranking of nothing."""
    empty = jnp.full(slots, _ABSENT, jnp.float32)
    return Ranking(empty, empty)


def record(ranking: Ranking, slots: jax.Array, scores: jax.Array) -> Ranking:
    """Set the scores of some slots, both `[B]`; negative: nothing is stored there."""
    scores = scores.astype(jnp.float32)
    return ranking._replace(scores=ranking.scores.at[slots].set(scores))


def rank(ranking: Ranking, scores: jax.Array) -> jax.Array:
    """1 plus the number of larger scores at the last sort, `[B]`; inf for nothing.

    Example:
        >>> ranking = Ranking(jnp.zeros(3), jnp.array([1.0, 2.0, 4.0]))
        >>> rank(ranking, jnp.array([5.0, 2.0, 0.5, -1.0])).tolist()
        [1.0, 2.0, 4.0, inf]
    """
    below = jnp.searchsorted(ranking.order, scores, side="right")
    larger = ranking.order.shape[0] - below
    return jnp.where(scores < 0, jnp.inf, 1.0 + larger)


def is_due(turn: int, done: jax.Array) -> jax.Array:
    """Whether to sort after `done` writes, of which `turn` fill the ring.

    Example:
        >>> [n for n in range(100, 140) if is_due(1600, jnp.int32(n))]
        [100, 104, 108, 112, 116, 120, 124, 128, 136]
    """
    stored = jnp.clip(done, 1, turn).astype(jnp.int32)
    power_of_two = jnp.int32(1) << (31 - jax.lax.clz(stored))  # At or below.
    return done % jnp.maximum(power_of_two // SORTS_PER_DOUBLING, 1) == 0


def sort(ranking: Ranking) -> tuple[Ranking, jax.Array]:
    """The ranking sorted anew, and the ranks of all slots, each rank once.

    Slots where nothing is stored have rank inf.
    """
    count = ranking.scores.shape[0]
    ascending = jnp.argsort(ranking.scores)
    ranks = jnp.zeros(count).at[ascending].set(jnp.arange(count, 0, -1.0))
    ranks = jnp.where(ranking.scores < 0, jnp.inf, ranks)
    return ranking._replace(order=ranking.scores[ascending]), ranks
