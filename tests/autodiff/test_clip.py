"""`clip_gradient`: the identity forward, a clip backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff.clip import clip_gradient


def half_square(x, **limits):
    return 0.5 * jnp.sum(jnp.square(clip_gradient(x, **limits)))


def test_the_value_is_unchanged():
    x = {"a": jnp.array([5.0, -7.0])}
    assert clip_gradient(x, max_abs=1.0, max_norm=1.0)["a"].tolist() == [5.0, -7.0]


@pytest.mark.parametrize(("x", "slope"), [(0.25, 0.25), (3.0, 1.0), (-9.0, -1.0)])
def test_half_a_square_becomes_huber(x, slope):
    assert jax.grad(half_square)(x, max_abs=1.0) == slope


def test_a_norm_is_of_all_leaves_together():
    def loss(tree):
        tree = clip_gradient(tree, max_norm=1.0)
        return 0.5 * (tree["a"] ** 2 + tree["b"] ** 2)

    gradient = jax.grad(loss)({"a": 3.0, "b": 4.0})
    np.testing.assert_allclose([gradient["a"], gradient["b"]], [0.6, 0.8], rtol=1e-6)


def test_each_example_is_clipped_by_itself_under_vmap():
    slopes = jax.vmap(jax.grad(lambda x: half_square(x, max_norm=1.0)))
    rows = slopes(jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    expected = [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_zero_cotangents_are_smooth_to_second_order():
    hessian = jax.hessian(lambda x: half_square(x, max_norm=1.0))(jnp.zeros(2))
    assert hessian.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_an_outer_derivative_sees_the_threshold():
    def slope(limit):
        return jax.grad(half_square)(3.0, max_abs=limit)

    assert jax.jit(jax.value_and_grad(slope))(2.0) == (2.0, 1.0)
    assert jax.grad(slope)(4.0) == 0.0


@pytest.mark.parametrize("limit", ["max_abs", "max_norm"])
@pytest.mark.parametrize(("value", "slope"), [(0.0, 0.0), (jnp.inf, 3.0)])
def test_traced_edge_values(limit, value, slope):
    got = jax.jit(lambda v: jax.grad(half_square)(3.0, **{limit: v}))(value)
    assert got == slope


def test_a_negative_threshold_is_refused():
    with pytest.raises(ValueError, match=r"max_abs=-1.0: expected a number >= 0"):
        clip_gradient(1.0, max_abs=-1.0)
