"""Behaviour policies: literal probabilities and the frequencies of draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_grads.agents.schema import BehaviourPolicy
from rl_grads.td import policies

KEYS = jax.random.split(jax.random.key(0), 20_000)
NAMES = ("epsilon_greedy", "softmax", "uniform")


def policy(name: str = "epsilon_greedy", **numbers: float) -> BehaviourPolicy:
    return BehaviourPolicy(name=name, **numbers)


def draws(q: jax.Array, chosen: BehaviourPolicy) -> np.ndarray:
    drawn = jax.jit(jax.vmap(lambda key: policies.sample(key, q, chosen)))(KEYS)
    return np.bincount(drawn, minlength=q.shape[-1])


@pytest.mark.parametrize(
    ("q", "epsilon", "expected"),
    [
        ([1.0, 3.0, 2.0, 0.0], 0.5, [0.125, 0.625, 0.125, 0.125]),
        ([1.0, 3.0, 3.0, 0.0], 0.5, [0.125, 0.375, 0.375, 0.125]),  # A tie.
        ([2.0, 2.0, 2.0, 2.0], 0.0, [0.25, 0.25, 0.25, 0.25]),
        ([1.0, 3.0, 2.0, 0.0], 0.0, [0.0, 1.0, 0.0, 0.0]),
        ([1.0, 3.0, 2.0, 0.0], 1.0, [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_epsilon_greedy(q, epsilon, expected):
    chosen = policy(epsilon=epsilon)
    assert policies.probabilities(jnp.array(q), chosen).tolist() == expected


def test_softmax():
    q = jnp.log(jnp.array([1.0, 2.0, 5.0]))
    one = policies.probabilities(q, policy("softmax", temperature=1.0))
    np.testing.assert_allclose(one, [0.125, 0.25, 0.625], rtol=1e-6)
    # At half the temperature the odds are squared: 1, 4, 25.
    half = policies.probabilities(q, policy("softmax", temperature=0.5))
    np.testing.assert_allclose(half, np.array([1, 4, 25]) / 30, rtol=1e-6)


def test_uniform():
    q = jnp.array([1.0, 9.0, 3.0, -5.0])
    assert policies.probabilities(q, policy("uniform")).tolist() == [0.25] * 4


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_sum_to_one(name):
    q = 5.0 * jax.random.normal(jax.random.key(1), (100, 7))
    chosen = policy(name, epsilon=0.3, temperature=0.7)
    p = jax.vmap(policies.probabilities, (0, None))(q, chosen)
    assert p.shape == q.shape
    assert float(p.min()) >= 0.0
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_these_probabilities(name):
    q = jnp.array([0.5, 1.0, 1.0, -0.5, 0.0])
    chosen = policy(name, epsilon=0.4, temperature=0.8)
    expected = np.asarray(policies.probabilities(q, chosen), np.float64)
    expected *= len(KEYS) / expected.sum()
    assert stats.chisquare(draws(q, chosen), expected).pvalue > 1e-3


def test_an_action_of_probability_zero_is_never_drawn():
    counts = draws(jnp.array([0.0, 2.0, 0.0, 2.0, 0.0]), policy(epsilon=0.0))
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert counts[[1, 3]].min() > 9_500


def test_values_that_are_not_finite_still_give_a_valid_action():
    q = jnp.array([jnp.nan, 1.0, 2.0])
    for name in NAMES:
        action = policies.sample(KEYS[0], q, policy(name))
        assert action.dtype == jnp.int32
        assert 0 <= int(action) < 3


def test_probabilities_are_differentiable_in_the_numbers_of_the_policy():
    q = jnp.array([1.0, 3.0])
    slope = jax.jacobian(lambda e: policies.probabilities(q, policy(epsilon=e)))(0.5)
    assert slope.tolist() == [0.5, -0.5]
    slope = jax.jacobian(
        lambda t: policies.probabilities(q, policy("softmax", temperature=t))
    )(2.0)
    # p_1 = sigmoid(2 / t), dp_1/dt = -2 / t**2 * p_1 * (1 - p_1)
    p_1 = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(slope[1], -0.5 * p_1 * (1 - p_1), rtol=1e-5)
    np.testing.assert_allclose(slope.sum(), 0.0, atol=1e-7)
