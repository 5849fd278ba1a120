"""Functions with rules of their own, against float64 and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import autodiff

TINY = np.finfo(np.float32).tiny
GRID = np.concatenate([np.linspace(-100, 100, 8001), np.geomspace(1e-30, 1, 200)])


# -------------------------------------------------------------------------- log1pexp


def softplus_in_float64(x):
    """Value, first and second derivative, each from a form that loses no digits."""
    small = np.exp(-np.abs(x))
    value = np.maximum(x, 0) + np.log1p(small)
    return value, np.where(x >= 0, 1, small) / (1 + small), small / (1 + small) ** 2


def three_orders(fun, second):
    first = jax.grad(fun)
    return [jax.jit(jax.vmap(f)) for f in (fun, first, second(first))]


@pytest.mark.parametrize("second", [jax.grad, jax.jacfwd])
def test_log1pexp_and_its_derivatives_in_float32(second):
    x = GRID.astype(np.float32)
    orders = three_orders(autodiff.log1pexp, second)
    for fun, expected in zip(orders, softplus_in_float64(x.astype(float)), strict=True):
        # float32 has no full-precision numbers below TINY = exp(-87.3).
        np.testing.assert_allclose(fun(x), expected, rtol=1e-6, atol=TINY)
        normal = expected > 2 * TINY
        assert normal.mean() > 0.85
        np.testing.assert_allclose(fun(x)[normal], expected[normal], rtol=1e-6)


def test_log1pexp_and_its_derivatives_in_float64():
    with jax.enable_x64(True):
        orders = three_orders(autodiff.log1pexp, jax.grad)
        for fun, expected in zip(orders, softplus_in_float64(GRID), strict=True):
            np.testing.assert_allclose(fun(GRID), expected, rtol=1e-13)


def test_what_the_rule_repairs():
    naive = lambda x: jnp.log(1 + jnp.exp(x))  # noqa: E731
    assert jnp.isinf(naive(100.0)) and jnp.isnan(jax.grad(naive)(100.0))
    assert float(autodiff.log1pexp(100.0)) == 100.0
    # The tutorial rule `(1 - 1 / (1 + exp(x))) * t` gives a second derivative of 0.
    assert float(jax.hessian(autodiff.log1pexp)(50.0)) == pytest.approx(np.exp(-50.0))


def test_forward_mode_of_log1pexp():
    value, slope = jax.jvp(autodiff.log1pexp, (0.0,), (2.0,))
    assert (float(value), float(slope)) == (pytest.approx(np.log(2)), 1.0)


def test_log1pexp_at_infinity():
    x = jnp.array([-jnp.inf, jnp.inf])
    assert autodiff.log1pexp(x).tolist() == [0.0, np.inf]
    assert jax.vmap(jax.grad(autodiff.log1pexp))(x).tolist() == [0.0, 1.0]
    assert jax.vmap(jax.hessian(autodiff.log1pexp))(x).tolist() == [0.0, 0.0]
    assert jnp.isnan(autodiff.log1pexp(jnp.nan))


# --------------------------------------------------------------------------- safe_norm


@pytest.mark.slow
def test_a_norm_and_its_gradient():
    x = jnp.array([3.0, -4.0])
    value, slope = jax.value_and_grad(autodiff.safe_norm)(x)
    assert float(value) == 5.0
    np.testing.assert_allclose(slope, [0.6, -0.8], rtol=1e-6)
    slope = jax.jvp(autodiff.safe_norm, (x,), (jnp.array([1.0, 0.0]),))[1]
    np.testing.assert_allclose(slope, 0.6, rtol=1e-6)
    # (I - u u^T) / norm
    expected = [[0.128, 0.096], [0.096, 0.072]]
    np.testing.assert_allclose(jax.hessian(autodiff.safe_norm)(x), expected, rtol=1e-5)


@pytest.mark.slow
def test_all_derivatives_at_zero_are_zero():
    zero = jnp.zeros(3)
    assert jnp.isnan(jax.grad(jnp.linalg.norm)(zero)).all()
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        assert not jnp.any(derivative(autodiff.safe_norm)(zero))
    third = jax.jacfwd(jax.hessian(autodiff.safe_norm))(zero)
    assert not jnp.any(third)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e37])
def test_a_norm_neither_overflows_nor_underflows(size):
    x = jnp.array([3.0, 4.0]) * size
    value, slope = jax.value_and_grad(autodiff.safe_norm)(x)
    np.testing.assert_allclose(value, 5 * size, rtol=1e-6)
    np.testing.assert_allclose(slope, [0.6, 0.8], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axis", "shape"),
    [(None, ()), (0, (3, 4)), (-1, (2, 3)), ((0, 2), (3,)), ((), (2, 3, 4))],
)
def test_axes(axis, shape):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4)).at[:, 1].set(0.0)
    norm = autodiff.safe_norm(x, axis)
    assert norm.shape == shape
    np.testing.assert_allclose(norm, np.sqrt(np.sum(x**2, axis)), rtol=1e-6)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(autodiff.safe_norm(x, axis))))(x)
    assert jnp.isfinite(slope).all()
    np.testing.assert_allclose(jnp.sum(slope * x), jnp.sum(norm), rtol=1e-5)


def test_what_is_not_finite_stays_so():
    assert jnp.isinf(autodiff.safe_norm(jnp.array([1.0, -jnp.inf])))
    assert jnp.isnan(autodiff.safe_norm(jnp.array([1.0, jnp.nan])))
    assert jnp.isnan(jax.grad(autodiff.safe_norm)(jnp.array([1.0, jnp.nan]))).all()


def test_a_norm_of_nothing_is_zero():
    assert float(autodiff.safe_norm(jnp.zeros(0))) == 0.0


def test_norms_under_vmap_and_in_half_precision():
    rows = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    slopes = jax.vmap(jax.grad(autodiff.safe_norm))(rows)
    np.testing.assert_allclose(slopes, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    half = autodiff.safe_norm(jnp.array([300.0, 400.0], jnp.float16))
    assert (half.dtype, float(half)) == (jnp.float16, 500.0)


# -------------------------------------------------------------------------- root_ratio


def test_root_ratio_at_the_edge():
    naive = lambda x: x / (1 + jnp.sqrt(x))  # noqa: E731
    assert jnp.isnan(jax.grad(naive)(0.0)) and jnp.isnan(jax.jacfwd(naive)(0.0))
    assert float(autodiff.root_ratio(0.0)) == 0.0
    assert float(jax.grad(autodiff.root_ratio)(0.0)) == 1.0
    assert float(jax.jacfwd(autodiff.root_ratio)(0.0)) == 1.0
    for second in (jax.grad, jax.jacfwd):
        assert float(second(jax.grad(autodiff.root_ratio))(0.0)) == -np.inf


@pytest.mark.parametrize("x", [0.25, 1.0, 9.0])
def test_root_ratio_inside_its_domain(x):
    naive = lambda x: x / (1 + jnp.sqrt(x))  # noqa: E731
    for order in (lambda f: f, jax.grad, jax.jacfwd, jax.hessian):
        expected = order(naive)(x)
        np.testing.assert_allclose(order(autodiff.root_ratio)(x), expected, rtol=1e-5)


# --------------------------------------------------------------------------- refusals


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["log1pexp", "safe_norm", "root_ratio"])
@pytest.mark.parametrize(
    ("x", "got"), [(1, "int32"), (jnp.ones(2, bool), "bool"), (1j, "complex64")]
)
def test_floating_numbers_only(name, x, got):
    with pytest.raises(TypeError) as caught:
        getattr(autodiff, name)(x)
    assert str(caught.value) == f"x: expected a floating dtype, got {got}"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["log1pexp", "safe_norm", "root_ratio"])
def test_one_array_only(name):
    with pytest.raises(TypeError) as caught:
        getattr(autodiff, name)({"a": 1.0})
    assert str(caught.value) == "x: expected an array, got a dict"
