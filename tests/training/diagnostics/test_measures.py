"""Measures of gradients and activations, in numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff.per_example import gradient_statistics
from rl_grads.gradients.layers import layers
from rl_grads.training.diagnostics import measures

RELU = jnp.array([[0.0, 3.0, 0.02, -4.0], [0.0, 1.0, 0.02, 0.0]])


def test_layers_are_what_stands_side_by_side():
    dense = {"kernel": jnp.array([3.0]), "bias": jnp.array([4.0])}
    params = {"params": {"Conv_0": dense, "dense": {"Dense_0": dense, "Dense_1": {}}}}
    norms = measures.layer_norms(params)
    assert {k: float(v) for k, v in norms.items()} == {
        "Conv_0": 5.0,
        "dense.Dense_0": 5.0,
    }
    assert layers({"w": 1.0, "deeper": {"b": 2.0}}) == {
        "all": [1.0],
        "deeper": [2.0],
    }


def test_a_step_relative_to_the_weights():
    before = {"a": {"w": jnp.array([3.0, 4.0])}, "b": {"w": jnp.zeros(2)}}
    after = {"a": {"w": jnp.array([3.3, 4.4])}, "b": {"w": jnp.ones(2)}}
    ratios = measures.update_ratios(before, after)
    np.testing.assert_allclose(ratios["a"], 0.1, rtol=1e-6)
    assert np.isnan(ratios["b"])


def test_interference_of_three_gradients():
    rows = jnp.array([[2.0, 0.0], [3.0, 3.0], [-1.0, 1.0]])
    found = measures.interference(rows @ rows.T)
    # Products 6, -2 and 0; cosines 1 / sqrt(2), -1 / sqrt(2) and 0.
    np.testing.assert_allclose(found.cosine, 0.0, atol=1e-7)
    np.testing.assert_allclose(found.negative, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(found.product, 4 / 3, rtol=1e-6)
    np.testing.assert_allclose(measures.cosines(rows @ rows.T)[0, 1], 0.5**0.5)


def test_pairs_that_do_not_count():
    rows = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [jnp.nan, 0.0], [1.0, 1.0]])
    slots = jnp.array([4, 4, 7, 8, 9])
    gram = rows @ rows.T
    found = measures.interference(gram, slots[:, None] == slots)
    np.testing.assert_allclose(found.cosine, 0.5**0.5, rtol=1e-6)
    np.testing.assert_allclose(found.product, 1.0)
    alone = measures.interference(gram[:1, :1])
    assert all(np.isnan(value) for value in alone)


def test_noise_scale_of_two_gradients():
    def loss(w, x, y):
        return 0.5 * (w @ x - y) ** 2

    x, y = jnp.array([[1.0, 0.0], [1.0, 1.0]]), jnp.array([2.0, 1.0])
    ask = gradient_statistics(loss, noise_scale=True, cosines=True, gram=True)
    found = ask(jnp.zeros(2), None, x, y)
    # Gradients (-2, 0) and (-1, -1): trace of the covariance |g - h|^2 / 2 = 1, and
    # <g, h> = 2 is the squared norm of their common mean without bias.
    np.testing.assert_allclose(found.noise_scale, 0.5, rtol=1e-6)
    np.testing.assert_allclose(found.gram, [[4.0, 2.0], [2.0, 2.0]])
    # With their mean (-1.5, -0.5).
    np.testing.assert_allclose(found.cosines, [3 / 10**0.5, 2 / 5**0.5], rtol=1e-6)


def test_dead_units_of_a_relu_layer():
    # Mean absolute activations 0, 2, .02 and 2: the average unit has 1.005.
    dead = measures.dormant_units(RELU, 0.025)
    assert dead.tolist() == [True, False, True, False]
    assert measures.dormant_units(RELU, 0.01).tolist() == [True, False, False, False]
    assert measures.dormant_units(jnp.zeros((2, 3)), 0.025).all()


def test_a_filter_is_one_unit():
    frames = jnp.zeros((2, 3, 3, 2)).at[0, 1, 2, 1].set(5.0)
    assert measures.dormant_units(frames, 0.025).tolist() == [True, False]


def test_dormant_parts_of_a_network():
    found = measures.dormant_fractions({"a": RELU, "b": jnp.ones((2, 2))}, 0.025)
    assert {k: round(float(v), 4) for k, v in found.items()} == {
        "a": 0.5,
        "b": 0.0,
        "all": 0.3333,
    }


@pytest.mark.parametrize(
    ("values", "threshold", "rank"),
    [
        ((3.0, 3.0, 3.0), 0.01, 3),
        ((98.0, 1.5, 0.5), 0.01, 2),
        ((98.0, 1.5, 0.5), 0.03, 1),
        ((1.0, 0.0, 0.0), 0.0, 1),
        ((0.0, 0.0, 0.0), 0.01, 0),
        ((1.0, jnp.inf, 0.0), 0.01, -1),
    ],
)
def test_effective_rank_of_known_singular_values(values, threshold, rank):
    left = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (5, 3)))[0]
    features = left * jnp.array(values)
    found = jax.jit(measures.effective_rank)(features, threshold)
    assert int(found) == rank
