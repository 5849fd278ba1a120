"""Ranks among all that is stored, sorted now and then."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.replay import ranking


def test_nothing_has_rank_infinity():
    empty = ranking.create(3)
    assert ranking.rank(empty, empty.scores).tolist() == [np.inf] * 3
    _, ranks = ranking.sort(empty)
    assert ranks.tolist() == [np.inf] * 3


def test_sorting_gives_every_score_its_rank():
    kept = ranking.record(ranking.create(5), jnp.arange(4), jnp.array([3.0, 9.0, 0, 5]))
    kept, ranks = ranking.sort(kept)
    assert ranks.tolist() == [3.0, 1.0, 4.0, 2.0, np.inf]
    assert kept.order.tolist() == [-1.0, 0.0, 3.0, 5.0, 9.0]


def test_equal_scores_share_the_ranks_they_take():
    kept = ranking.record(ranking.create(4), jnp.arange(4), jnp.array([2.0, 7, 2, 2]))
    assert sorted(ranking.sort(kept)[1].tolist()) == [1.0, 2.0, 3.0, 4.0]


def test_a_new_score_is_ranked_among_those_of_the_last_sort():
    kept = ranking.record(ranking.create(4), jnp.arange(4), jnp.array([1.0, 2, 4, 8]))
    kept, _ = ranking.sort(kept)
    kept = ranking.record(kept, jnp.array([0]), jnp.array([100.0]))
    scores = jnp.array([9.0, 8.0, 3.0, 0.5, -1.0])
    assert ranking.rank(kept, scores).tolist() == [1.0, 1.0, 3.0, 5.0, np.inf]


@pytest.mark.parametrize("turn", [10, 64, 1600, 100_000])
def test_sorts_keep_pace_with_a_memory_that_fills(turn):
    due = jax.jit(jax.vmap(lambda n: ranking.is_due(turn, n)))(jnp.arange(2 * turn))
    at = np.flatnonzero(due)
    assert at[0] == 0
    gaps = np.diff(at)
    # Never more than a sixteenth of what is stored is out of order.
    assert (gaps <= np.maximum(1, np.minimum(at[1:], turn) / 16 + 1)).all()
    assert len(at) <= 16 * (np.log2(turn) + 1) + 32
