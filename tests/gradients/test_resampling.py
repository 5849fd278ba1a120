"""Estimators that priorities ask for: resampling, and norms of the last layer."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents import networks
from rl_grads.agents.schema import MLP
from rl_grads.gradients.estimators import About, mean_gradient
from rl_grads.gradients.last_layer_norms import last_layer_norms
from rl_grads.gradients.resampling import resampled
from rl_grads.replay.large_batch import choose
from rl_grads.replay.schema import Importance, Replay
from rl_grads.td import losses
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config, Training

pytestmark = pytest.mark.slow

LARGE = 64


class Fixed(NamedTuple):
    """A choice made beforehand."""

    places: jax.Array
    weights: jax.Array


def loss(params, bootstrap_params, x, config):
    error = x - params
    return 0.5 * jnp.sum(error**2), Signals(error[0])


X = jnp.array([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [0.0, 1.0]])


def test_the_gradient_is_that_of_the_chosen():
    seen = []

    def third_and_first(key, signals, config):
        seen.append(signals.gradient_norm.tolist())
        return Fixed(jnp.array([2, 0]), jnp.array([0.5, 2.0]))

    estimator = resampled(mean_gradient(), third_and_first)
    about = About(loss, jnp.zeros(2), jnp.zeros(2), X)
    gradient, signals, _ = estimator.update((), jax.random.key(0), about)
    np.testing.assert_allclose(seen, [[5.0, 0.0, 10.0, 1.0]], rtol=1e-6)
    # -(0.5 * (6, 8) + 2 * (3, 4)) / 2
    np.testing.assert_allclose(gradient, [-4.5, -6.0], rtol=1e-6)
    assert signals.td_error.tolist() == [6.0, 3.0]
    assert signals.gradient_norm.tolist() == [10.0, 5.0]


def test_weights_of_examples_stay_with_them():
    estimator = resampled(
        mean_gradient(), lambda *_: Fixed(jnp.array([3, 3]), jnp.array([1.0, 3.0]))
    )
    weights = jnp.array([0.0, 0.0, 0.0, 0.5])
    about = About(loss, jnp.zeros(2), jnp.zeros(2), X, weights)
    gradient, _, _ = estimator.update((), jax.random.key(0), about)
    np.testing.assert_allclose(gradient, [0.0, -1.0], rtol=1e-6)  # 0.5 * (1 + 3) / 2


def whole(**replay) -> Config:
    importance = Importance(exponent=1.0, normalise="none")
    return Config(
        network=MLP(hidden=(8,)),
        replay=Replay(importance=importance, **replay),
        training=Training(batch_size=LARGE // 4),
    )


def batch() -> Transition:
    rng = np.random.default_rng(0)
    obs = jnp.asarray(rng.normal(size=(2, LARGE, 3)), jnp.float32)
    flags = jnp.zeros(LARGE, bool)
    return Transition(
        s_tm1=obs[0],
        a_tm1=jnp.arange(LARGE) % 2,
        r_t=jnp.asarray(rng.standard_cauchy(LARGE), jnp.float32),
        s_t=obs[1],
        terminated=flags,
        truncated=flags,
        discount_t=jnp.full(LARGE, 0.9),
        rho=jnp.ones(LARGE),
    )


def test_large_batches_are_unbiased_with_less_variance():
    config = whole(priority="large_batch")
    network = networks.make(config, 2)
    params = network.init(jax.random.key(0), jnp.ones(3))
    td_loss, many = losses.q_learning(network), batch()

    def estimate(estimator, key):
        about = About(td_loss, params, params, many, None, config)
        return jax.flatten_util.ravel_pytree(estimator.update((), key, about)[0])[0]

    def at_random(key, signals, config):
        places = jax.random.randint(key, (LARGE // 4,), 0, LARGE)
        return Fixed(places, jnp.ones(LARGE // 4))

    def moments(choice):
        one = functools.partial(estimate, resampled(mean_gradient(), choice))
        made = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000))
        return np.mean(made, 0), np.var(made, 0).sum()

    exact = np.asarray(estimate(mean_gradient(), jax.random.key(0)))
    uniform, by_norm = moments(at_random), moments(choose)
    spread = np.sqrt(by_norm[1] / 4000)
    assert np.linalg.norm(by_norm[0] - exact) < 4 * spread
    assert by_norm[1] < 0.5 * uniform[1]


def test_the_last_layers_norm_is_the_error_times_its_input():
    config = whole()
    network = networks.make(config, 2)
    params = network.init(jax.random.key(0), jnp.ones(3))
    many = batch()
    about = About(losses.q_learning(network), params, params, many, None, config)
    plain = mean_gradient().update((), jax.random.key(0), about)
    estimator = last_layer_norms(mean_gradient(), network.apply)
    gradient, signals, _ = estimator.update((), jax.random.key(0), about)
    jax.tree.map(np.testing.assert_array_equal, gradient, plain[0])
    first = params["params"]["Dense_0"]
    read = jax.nn.relu(many.s_tm1 @ first["kernel"] + first["bias"])
    expected = np.abs(signals.td_error) * np.sqrt(np.sum(read**2, 1) + 1)
    found = signals.extra["gradient_norm_last_layer"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
