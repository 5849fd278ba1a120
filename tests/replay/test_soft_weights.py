"""Soft weights against the derivative of the mean over every possible draw."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_grads.replay.large_batch import choose
from rl_grads.replay.priorities import importance_weights
from rl_grads.replay.schema import Importance, Replay
from rl_grads.replay.soft_weights import exponent_factor, soft_weights
from rl_grads.td.transition import Signals
from rl_grads.training.schema import Config, Training

pytestmark = pytest.mark.usefixtures("double_precision")

SCORES = np.array([0.5, 1.0, 4.0])
VALUES = np.array([1.0, -2.0, 0.5])  # What is averaged over a batch.
EXPONENT = 0.7


def probabilities(exponent, scores=SCORES):
    powered = scores**exponent
    return powered / powered.sum()


def slope_of(function, h=1e-6):
    """Central difference at the exponent."""
    return (function(EXPONENT + h) - function(EXPONENT - h)) / (2 * h)


def slopes(draws, importance):
    """Derivatives of the weighted means of the batches `draws`, `[.., B]`."""
    ratio = jnp.array(len(SCORES) * probabilities(EXPONENT))

    def mean(exponent, draw):
        drawn = exponent_factor(jnp.log(jnp.array(SCORES))[draw], exponent)
        weights = soft_weights(ratio[draw], importance, drawn)
        return jnp.mean(weights * jnp.array(VALUES)[draw])

    one = jax.vmap(jax.grad(mean), (None, 0))
    return np.asarray(jax.jit(one)(EXPONENT, jnp.asarray(draws)))


# --------------------------------------------------------------- independent draws


@pytest.mark.parametrize("batch_size", [2, 3, 5])
@pytest.mark.parametrize("correct", [0.0, 0.4, 1.0])
def test_over_all_draws_it_is_the_derivative_of_the_mean(batch_size, correct):
    """But for the factor 1 - 1/B of a batch that is its own normaliser."""
    draws = np.array(list(itertools.product(range(3), repeat=batch_size)))
    chances = probabilities(EXPONENT)[draws].prod(-1)
    found = chances @ slopes(draws, Importance(correct, normalise="none"))

    def mean(exponent):
        p = probabilities(exponent)
        return np.sum(p * (3 * p) ** -correct * VALUES)

    expected = (1 - 1 / batch_size) * slope_of(mean)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-9)


def limit(normalise, correct):
    """The mean of an endless batch, whose weights are normalised."""

    def mean(exponent):
        p = probabilities(exponent)
        weights = (3 * p) ** -correct
        by = np.sum(p * weights) if normalise == "mean" else weights.max()
        return np.sum(p * weights / by * VALUES)

    return mean


@pytest.mark.slow
@pytest.mark.parametrize(("normalise", "correct"), [("mean", 0.8), ("max", 0.4)])
def test_with_normalised_weights_the_bias_falls_with_the_batch_size(normalise, correct):
    importance, away = Importance(correct, normalise=normalise), {}
    for size in (32, 64):
        counts = [c for c in itertools.product(range(size + 1), repeat=2)]
        counts = np.array([(a, b, size - a - b) for a, b in counts if a + b <= size])
        chances = stats.multinomial.pmf(counts, size, probabilities(EXPONENT))
        draws = np.array([np.repeat(np.arange(3), c) for c in counts])
        found = chances @ slopes(draws, importance)
        away[size] = abs(found / slope_of(limit(normalise, correct)) - 1)
    assert 1e-2 < away[64] < 0.1
    assert away[64] == pytest.approx(away[32] / 2, rel=0.1)


# --------------------------------------------------------------------------- values


@pytest.mark.parametrize("normalise", ["none", "mean", "max"])
def test_values_are_those_of_importance_weights(normalise):
    importance = Importance(0.4, normalise=normalise)
    ratio = jnp.array([0.3, 1.7, 1.7, 2.9])
    drawn = exponent_factor(jnp.log(ratio), EXPONENT)
    assert drawn.tolist() == [1.0] * 4
    found = soft_weights(ratio, importance, drawn)
    np.testing.assert_allclose(found, importance_weights(ratio, 1, importance), 1e-15)


def test_further_factors_are_not_corrected_for():
    """Hand-worked: the derivative is that of `also` less its mean, times the weight."""
    ratio, full = jnp.array([0.25, 4.0]), Importance(1.0, normalise="none")

    def weights(x):
        also = jnp.exp(jnp.array([1.0, 3.0]) * (x - 2.0))
        return soft_weights(ratio, full, jnp.ones(2), also)

    assert weights(2.0).tolist() == [4.0, 0.25]
    assert jax.jacobian(weights)(2.0).tolist() == [-4.0, 0.25]


def test_the_exponent_of_the_weights_has_its_derivative():
    ratio = jnp.array([0.25, 4.0])

    def weights(correct):
        importance = Importance(correct, normalise="none")
        return soft_weights(ratio, importance, jnp.ones(2))

    expected = -np.log([0.25, 4.0]) * np.array([2.0, 0.5])
    np.testing.assert_allclose(jax.jacobian(weights)(0.5), expected, 1e-12)


# ----------------------------------------------------------------------- large batches


@pytest.mark.slow
def test_a_batch_out_of_a_large_one():
    """Stratified draws from four examples, one of which can never be drawn."""
    norms = jnp.array([0.5, 1.0, 4.0, jnp.nan])
    values = jnp.array([*VALUES, 100.0])

    def config(exponent):
        importance = Importance(0.4, normalise="none")
        replay = Replay(
            priority="large_batch", exponent=exponent, importance=importance
        )
        return Config(replay=replay, training=Training(batch_size=32))

    def mean(exponent, key):
        signals = Signals(jnp.zeros(4), gradient_norm=norms)
        chosen = choose(key, signals, config(exponent))
        return jnp.mean(chosen.weights * values[chosen.places])

    keys = jax.random.split(jax.random.key(0), 2000)
    found = jax.jit(jax.vmap(jax.grad(mean), (None, 0)))(EXPONENT, keys)

    def exact(exponent):
        p = probabilities(exponent, SCORES + 1e-6)
        return np.sum(p * (4 * p) ** -0.4 * VALUES)

    expected, error = slope_of(exact), float(jnp.std(found)) / 2000**0.5
    # A stratified batch is a better normaliser than an independent one.
    low, high = sorted([(1 - 1 / 32) * expected, expected])
    assert low - 4 * error < float(jnp.mean(found)) < high + 4 * error
    assert error < 0.02 * abs(expected)


@pytest.mark.slow
def test_a_uniform_draw_may_have_the_exponent_zero():
    signals = Signals(jnp.zeros(3), gradient_norm=jnp.array(SCORES))
    replay = Replay(priority="large_batch", exponent=0.0)
    config = Config(replay=replay, training=Training(batch_size=4))
    chosen = choose(jax.random.key(0), signals, config)
    assert chosen.weights.tolist() == [1.0] * 4
