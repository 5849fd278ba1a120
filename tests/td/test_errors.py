"""TD errors against numbers worked out by hand, all of them exact in binary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.td import errors

Q_TM1 = jnp.array([1.0, 2.0, 4.0])
Q_T = jnp.array([3.0, -1.0, 2.0])


@pytest.mark.parametrize(
    ("v_tm1", "r_t", "discount_t", "v_t", "expected"),
    [
        (0.5, 1.0, 0.75, 2.0, 2.0),  # 1 + 1.5 - 0.5
        (2.0, -1.0, 1.0, 0.5, -2.5),  # -1 + 0.5 - 2
        (2.0, 1.0, 0.0, 100.0, -1.0),  # Terminated: the next value does not count.
    ],
)
def test_td_error(v_tm1, r_t, discount_t, v_t, expected):
    assert float(errors.td_error(v_tm1, r_t, discount_t, v_t)) == expected


@pytest.mark.parametrize(
    ("a_tm1", "discount_t", "expected"),
    [(0, 0.5, 1.5), (1, 0.5, 0.5), (2, 0.5, -1.5), (2, 0.0, -3.0)],
)
def test_q_learning_error(a_tm1, discount_t, expected):
    # 1 + discount * 3 - q_tm1[a]
    error = errors.q_learning_error(Q_TM1, a_tm1, 1.0, discount_t, Q_T)
    assert float(error) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [([9.0, 0.0, 0.0], 0.5), ([0.0, 9.0, 0.0], -1.5), ([0.0, 0.0, 9.0], 0.0)],
)
def test_double_q_learning_error(selector, expected):
    # 1 + 0.5 * (3, -1 or 2) - 2
    error = errors.double_q_learning_error(Q_TM1, 1, 1.0, 0.5, Q_T, jnp.array(selector))
    assert float(error) == expected


def test_double_q_learning_is_q_learning_when_both_estimates_agree():
    for a_tm1 in range(3):
        arguments = (Q_TM1, a_tm1, 1.0, 0.75, Q_T)
        double = errors.double_q_learning_error(*arguments, Q_T)
        assert float(double) == float(errors.q_learning_error(*arguments))


@pytest.mark.parametrize(("a_t", "expected"), [(0, 0.5), (1, -1.5), (2, 0.0)])
def test_sarsa_error(a_t, expected):
    assert float(errors.sarsa_error(Q_TM1, 1, 1.0, 0.5, Q_T, a_t)) == expected


def test_expected_sarsa_error():
    probabilities = jnp.array([0.25, 0.5, 0.25])
    # 1 + 0.5 * (0.75 - 0.5 + 0.5) - 2
    error = errors.expected_sarsa_error(Q_TM1, 1, 1.0, 0.5, Q_T, probabilities)
    assert float(error) == -0.625


def test_expected_sarsa_is_the_expectation_of_sarsa():
    probabilities = jnp.array([0.25, 0.5, 0.25])
    each = [errors.sarsa_error(Q_TM1, 2, 1.0, 0.5, Q_T, a) for a in range(3)]
    mean = float(jnp.dot(probabilities, jnp.stack(each)))
    error = errors.expected_sarsa_error(Q_TM1, 2, 1.0, 0.5, Q_T, probabilities)
    assert float(error) == mean == -2.625


def test_expected_sarsa_of_a_greedy_policy_is_q_learning():
    greedy = jnp.array([1.0, 0.0, 0.0])
    error = errors.expected_sarsa_error(Q_TM1, 0, 1.0, 0.5, Q_T, greedy)
    assert float(error) == float(errors.q_learning_error(Q_TM1, 0, 1.0, 0.5, Q_T))


def test_no_error_stops_a_gradient():
    slope = jax.grad(errors.td_error, argnums=(0, 1, 2, 3))(0.5, 1.0, 0.75, 2.0)
    assert [float(x) for x in slope] == [-1.0, 1.0, 2.0, 0.75]
    q_tm1, q_t = jax.grad(errors.q_learning_error, argnums=(0, 4))(
        Q_TM1, 1, 1.0, 0.5, Q_T
    )
    assert q_tm1.tolist() == [0.0, -1.0, 0.0]
    assert q_t.tolist() == [0.5, 0.0, 0.0]


def test_a_batch_is_a_vmap():
    q_tm1, q_t = jnp.stack([Q_TM1, Q_T]), jnp.stack([Q_T, Q_TM1])
    a_tm1, r_t = jnp.array([1, 2]), jnp.array([1.0, 0.0])
    batch = jax.vmap(errors.q_learning_error, (0, 0, 0, None, 0))(
        q_tm1, a_tm1, r_t, 0.5, q_t
    )
    np.testing.assert_array_equal(batch, [0.5, 0.0])
