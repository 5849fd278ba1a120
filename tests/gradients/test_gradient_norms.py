"""The mean gradient with the norm of each example's own, by hand and in agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.gradients.estimators import About, gradient_norms, mean_gradient
from rl_grads.td.transition import Signals

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def loss(params, bootstrap_params, x, config):
    """Gradient `-(config["target"] * bootstrap - params @ x) * x`."""
    error = config["target"] * bootstrap_params - params @ x
    return 0.5 * error**2, Signals(error, {"square": error**2})


PARAMS = jnp.array([1.0, 2.0])
BATCH = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
CONFIG = {"target": 2.0}
# Errors with bootstrap 3: 5, 2, -5; gradients (-5, 0), (0, -4), (15, 20).


def estimate(estimator, weights=None, batch=BATCH):
    def update(params, batch):
        state = estimator.init(params)
        about = About(loss, params, 3.0, batch, weights, CONFIG)
        return estimator.update(state, KEY, about)

    return jax.jit(update)(PARAMS, batch)


def test_by_hand():
    gradient, signals, state = estimate(gradient_norms())
    np.testing.assert_allclose(gradient, [10 / 3, 16 / 3], rtol=1e-6)
    np.testing.assert_allclose(signals.gradient_norm, [5.0, 4.0, 25.0], rtol=1e-6)
    assert signals.td_error.tolist() == [5.0, 2.0, -5.0]
    assert signals.extra["square"].tolist() == [25.0, 4.0, 25.0]
    assert state == ()


def test_norms_are_those_of_the_unweighted_loss():
    weights = jnp.array([2.0, 0.0, 0.1])
    gradient, signals, _ = estimate(gradient_norms(), weights)
    np.testing.assert_allclose(gradient, [-8.5 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(signals.gradient_norm, [5.0, 4.0, 25.0], rtol=1e-6)


def test_the_gradient_is_the_mean_gradient():
    weights = jnp.array([2.0, 0.0, 0.1])
    for w in (None, weights):
        want, _, _ = estimate(mean_gradient(), w)
        np.testing.assert_allclose(estimate(gradient_norms(), w)[0], want, rtol=1e-6)


def test_an_example_that_is_not_finite_is_left_out_of_the_mean():
    batch = BATCH.at[1, 0].set(jnp.nan)
    gradient, signals, _ = estimate(gradient_norms(), batch=batch)
    np.testing.assert_allclose(gradient, [5.0, 10.0], rtol=1e-6)
    assert jnp.isfinite(signals.gradient_norm).tolist() == [True, False, True]


def test_a_batch_without_a_finite_example_does_not_pass_as_zero():
    gradient, _, _ = estimate(gradient_norms(), batch=BATCH * jnp.nan)
    assert jnp.isnan(gradient).all()


def test_an_outer_derivative_sees_that_the_bootstrap_moves():
    def step(params, estimator):
        about = About(loss, params, params.sum(), BATCH, None, CONFIG)
        gradient, _, _ = estimator.update((), KEY, about)
        return jnp.sum(jnp.sin(params - 0.1 * gradient))

    slopes = [
        jax.jit(jax.grad(lambda p, e=e: step(p, e)))(PARAMS)
        for e in (gradient_norms(), mean_gradient())
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-5)
