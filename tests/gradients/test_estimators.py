"""The mean gradient: worked out by hand, weighted, in `params` only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents import networks
from rl_grads.agents.schema import MLP
from rl_grads.gradients.clips import clipped_network
from rl_grads.gradients.estimators import About, gradient_norms, mean_gradient
from rl_grads.gradients.schema import Gradient, GraphClip
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

KEY = jax.random.key(0)
BATCH = Transition(
    s_tm1=jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]),
    a_tm1=jnp.zeros(3, jnp.int32),
    r_t=jnp.array([1.0, 0.0, 2.0]),
    s_t=jnp.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]),
    terminated=jnp.zeros(3, bool),
    truncated=jnp.zeros(3, bool),
    discount_t=jnp.array([0.5, 0.5, 0.5]),
    rho=jnp.array([1.0, 1.0, 1.0]),
)


class Linear:
    """`params @ s`."""

    init = None  # Parameters are given.

    @staticmethod
    def apply(params, obs):
        return params @ obs


def estimate(params, bootstrap, batch=BATCH, weights=None, loss=None):
    loss = loss or losses.td(Linear)
    estimator = mean_gradient()
    state = estimator.init(params)
    about = About(loss, params, bootstrap, batch, weights, Config())
    return estimator.update(state, KEY, about)


def test_by_hand():
    params, bootstrap = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 6.0]])
    gradient, signals, state = estimate(params, bootstrap)
    # delta = 1 + 3 - 1, 0 + 2 - 4, 2 + 0 - 3; gradient = -mean(delta * s_tm1)
    assert signals.td_error.tolist() == [3.0, -2.0, -1.0]
    np.testing.assert_allclose(gradient, [[-2 / 3, 5 / 3]], rtol=1e-6)
    assert state == ()
    assert signals.gradient_norm is None


def test_weights_scale_examples_and_are_not_normalised():
    params, bootstrap = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 6.0]])
    weights = jnp.array([0.0, 3.0, 6.0])
    gradient, signals, _ = estimate(params, bootstrap, weights=weights)
    # (0 * ... + 3 * 2 * (0, 2) + 6 * 1 * (1, 1)) / 3
    np.testing.assert_allclose(gradient, [[2.0, 6.0]], rtol=1e-6)
    assert signals.td_error.tolist() == [3.0, -2.0, -1.0]  # Not weighted.


@pytest.mark.parametrize("limit", ["max_abs", "max_norm"])
@pytest.mark.parametrize("estimator", [mean_gradient(), gradient_norms()])
def test_weights_come_after_a_clip_inside_the_graph(estimator, limit):
    config = Config(gradient=Gradient(clip=GraphClip(**{limit: 2.0})))

    def loss(params, bootstrap_params, transition, config):
        clipped = clipped_network(Linear, config.gradient.clip)
        return losses.td(clipped)(params, bootstrap_params, transition, config)

    params, bootstrap = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 6.0]])
    weights = jnp.array([0.1, 0.0, 6.0])
    about = About(loss, params, bootstrap, BATCH, weights, config)
    gradient, _, _ = estimator.update((), KEY, about)
    # delta = 3, -2, -1, clipped to 2, -2, -1: -(0.1 * 2 * (1, 0) - 6 * (1, 1)) / 3
    np.testing.assert_allclose(gradient, [[5.8 / 3, 2.0]], rtol=1e-6)


def test_equal_weights_are_no_weights():
    params = jnp.array([[1.0, 2.0]])
    plain, _, _ = estimate(params, params)
    ones, _, _ = estimate(params, params, weights=jnp.ones(3))
    assert plain.tolist() == ones.tolist()


def test_it_is_the_weighted_sum_of_the_examples_gradients():
    network = networks.make(Config(network=MLP(hidden=(5,), activation="tanh")), 1)
    loss = losses.td(network)
    params = network.init(KEY, BATCH.s_tm1[0])
    bootstrap = network.init(jax.random.key(1), BATCH.s_tm1[0])
    weights = jnp.array([0.5, -1.0, 2.0])
    gradient, _, _ = estimate(params, bootstrap, weights=weights, loss=loss)
    one = jax.grad(loss, has_aux=True)
    each = [
        one(params, bootstrap, jax.tree.map(lambda x, i=i: x[i], BATCH), None)[0]
        for i in range(3)
    ]
    summed = jax.tree.map(
        lambda *g: sum(w * x for w, x in zip(weights, g, strict=True)) / 3, *each
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        gradient,
        summed,
    )


def test_the_bootstrap_is_seen_by_an_outer_derivative_only():
    params = jnp.array([[1.0, 2.0]])
    gradient, signals, _ = estimate(params, params)
    # delta = 1 + 1 - 1, 0 + 0.5 - 4, 2 + 0 - 3; gradient = -mean(delta * s_tm1)
    assert signals.td_error.tolist() == [1.0, -3.5, -1.0]
    np.testing.assert_allclose(gradient, [[0.0, 8 / 3]], rtol=1e-6, atol=1e-7)
    outer = jax.grad(lambda p: estimate(p, p)[0].sum())(params)
    # -mean((0.5 * s_t - s_tm1) * sum(s_tm1)), the sums being 1, 2, 2
    expected = -((0.5 * BATCH.s_t - BATCH.s_tm1) * jnp.array([[1.0], [2.0], [2.0]]))
    np.testing.assert_allclose(outer, expected.mean(0)[None], rtol=1e-6)
