"""Updates until the Blind Cliffwalk is learnt, against medians over 400 other seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.studies import blind_cliffwalk
from rl_grads.studies.blind_cliffwalk import SCHEMES, all_ways, td_error

pytestmark = pytest.mark.slow

MEDIANS = {
    4: {"oracle": 94, "greedy_td": 103, "proportional": 165, "uniform": 379},
    8: {"oracle": 318, "greedy_td": 737, "proportional": 1328, "uniform": 6750},
    10: {"oracle": 477, "greedy_td": 2372, "proportional": 4102, "uniform": 28126},
}


@pytest.mark.parametrize("num_states", [2, 4, 10])
def test_every_way_is_in_the_memory(num_states):
    walk = all_ways(num_states)
    assert len(walk.state) == 2 ** (num_states + 1) - 2
    rewarded = np.asarray(walk.reward[walk.state, walk.action])
    assert rewarded.sum() == 1.0
    # Both actions as often in every state, and twice as often as one state later.
    counts = np.zeros((num_states, 2), int)
    np.add.at(counts, (np.asarray(walk.state), np.asarray(walk.action)), 1)
    powers = 2 ** np.arange(num_states - 1, -1, -1)
    assert counts.tolist() == [[p, p] for p in powers.tolist()]


def test_td_errors_by_hand():
    walk, q = all_ways(4), jnp.arange(8.0).reshape(4, 2)
    assert float(td_error(walk, q, 1, 0)) == -2.0  # Ends with nothing.
    assert float(td_error(walk, q, 1, 1)) == 0.75 * 5 - 3
    assert float(td_error(walk, q, 3, 1)) == 1 - 7.0


def test_true_values_have_no_error():
    walk = all_ways(8)
    errors = jax.vmap(lambda s, a: td_error(walk, walk.q, s, a))
    np.testing.assert_allclose(errors(walk.state, walk.action), 0.0, atol=1e-6)


def test_the_oracle_takes_the_best_update():
    walk, q = all_ways(4), jax.random.normal(jax.random.key(0), (4, 2))
    chosen = SCHEMES["oracle"]().choose((), jax.random.key(0), walk, q)

    def after(state, action):
        error = td_error(walk, q, state, action)
        new = q.at[state, action].add(blind_cliffwalk.STEP_SIZE * error)
        return jnp.sum((new - walk.q) ** 2)

    all_after = jax.vmap(after)(walk.state, walk.action)
    np.testing.assert_allclose(all_after[chosen], all_after.min(), rtol=1e-6)


def test_greedy_takes_the_new_first_and_refreshes_what_it_replays():
    walk, scheme = all_ways(2), SCHEMES["greedy_td"]()
    state, order = scheme.init(walk), []
    for error in (0.1, -0.5, 0.2, 0.0, 0.3, 0.4):
        order.append(int(scheme.choose(state, None, walk, None)))
        state = scheme.record(state, jnp.asarray(order[-1]), jnp.float32(error))
    assert sorted(order) == list(range(6))
    assert int(scheme.choose(state, None, walk, None)) == order[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_medians_of_a_hundred_seeds_on_four_states(scheme):
    median = np.median(blind_cliffwalk.updates_to_learn(4, SCHEMES[scheme](), 100))
    assert median == pytest.approx(MEDIANS[4][scheme], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("num_states", [8, 10])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_medians_of_a_hundred_seeds(num_states, scheme):
    updates = blind_cliffwalk.updates_to_learn(num_states, SCHEMES[scheme](), 100)
    assert np.median(updates) == pytest.approx(MEDIANS[num_states][scheme], rel=0.1)
