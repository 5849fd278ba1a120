"""`clip_gradient`: the identity forward, a clip backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff import clip_gradient

X = jnp.array([3.0, -4.0])
LIMITS = ["max_abs", "max_norm"]


def half_square(x, **limits):
    return 0.5 * jnp.sum(jnp.square(clip_gradient(x, **limits)))


def arriving(cotangent, **limits):
    """What is left of a cotangent behind the clip."""
    zeros = jax.tree.map(jnp.zeros_like, cotangent)
    pullback = jax.vjp(lambda x: clip_gradient(x, **limits), zeros)[1]
    return pullback(cotangent)[0]


def rows_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# ------------------------------------------------------------------- value and slope


@pytest.mark.parametrize("limits", [{}, {"max_abs": 1.0, "max_norm": 1.0}])
def test_the_value_is_unchanged(limits):
    x = {"a": jnp.array([5.0, -7.0]), "b": jnp.ones((), jnp.bfloat16)}
    found = clip_gradient(x, **limits)
    assert found["a"].tolist() == [5.0, -7.0]
    assert (found["b"].dtype, float(found["b"])) == (jnp.bfloat16, 1.0)


@pytest.mark.slow
def test_half_a_square_becomes_huber():
    def huber(x):
        return jnp.where(abs(x) <= 1, 0.5 * x**2, abs(x) - 0.5)

    x = jnp.array([-9.0, -1.0, -0.25, 0.0, 0.25, 0.75, 3.0, 1e30])
    slope = jax.vmap(jax.grad(lambda x: half_square(x, max_abs=1.0)))(x)
    assert slope.tolist() == jax.vmap(jax.grad(huber))(x).tolist()
    assert slope.tolist() == [-1.0, -1.0, -0.25, 0.0, 0.25, 0.75, 1.0, 1.0]


@pytest.mark.slow
def test_elements_first_then_the_norm():
    # [3, -4, 0.5] is cut to [1, -1, 0.5], whose norm is 1.5.
    found = arriving(jnp.array([3.0, -4.0, 0.5]), max_abs=1.0, max_norm=0.75)
    rows_close(found, [0.5, -0.5, 0.25])


def test_a_norm_is_of_all_leaves_together():
    found = arriving({"a": jnp.array([3.0, 0.0]), "b": [jnp.array(4.0)]}, max_norm=1.0)
    rows_close(found["a"], [0.6, 0.0])
    rows_close(found["b"][0], 0.8)


def test_elements_of_every_leaf():
    found = arriving({"a": jnp.array([3.0, 0.5]), "b": jnp.array(-4.0)}, max_abs=1.0)
    assert found["a"].tolist() == [1.0, 0.5]
    assert float(found["b"]) == -1.0


def test_a_tree_without_leaves():
    assert clip_gradient({}, max_norm=1.0) == {}


# -------------------------------------------------------- the tables of the docstring

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("max_abs", 2.0, [2.0, -2.0]),
        ("max_abs", 3.5, [3.0, -3.5]),
        ("max_abs", 0.0, [0.0, 0.0]),
        ("max_abs", INF, [3.0, -4.0]),
        ("max_abs", NAN, [NAN, NAN]),
        ("max_norm", 2.5, [1.5, -2.0]),
        ("max_norm", 5.0, [3.0, -4.0]),
        ("max_norm", 0.0, [0.0, 0.0]),
        ("max_norm", INF, [3.0, -4.0]),
        ("max_norm", NAN, [NAN, NAN]),
    ],
)
def test_thresholds(limit, value, expected, compiled):
    slope = jax.grad(lambda t: half_square(X, **{limit: t}) * 0 + 1.0)
    make = lambda t: jax.grad(half_square)(X, **{limit: t})  # noqa: E731
    rows_close((jax.jit(make) if compiled else make)(value), expected)
    assert float(slope(value)) == 0.0


@pytest.mark.parametrize("limit", LIMITS)
def test_a_traced_negative_threshold_shows(limit):
    found = jax.jit(lambda t: arriving(X, **{limit: t}))(-1.0)
    assert jnp.isnan(found).all()


@pytest.mark.parametrize("value", [0.0, 1.0, INF])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_zero_cotangent_stays_zero(limit, value):
    found = jax.jit(lambda t: arriving(jnp.zeros(2), **{limit: t}))(value)
    assert found.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("limits", "cotangent", "expected"),
    [
        ({"max_abs": 2.0}, [INF, -INF, 1.0], [2.0, -2.0, 1.0]),
        ({"max_abs": 2.0}, [NAN, 5.0], [NAN, 2.0]),
        ({"max_norm": 2.0}, [INF, 5.0], [NAN, 0.0]),
        ({"max_norm": 2.0}, [NAN, 5.0], [NAN, NAN]),
        ({"max_norm": INF}, [INF, 5.0], [INF, 5.0]),
        ({"max_norm": 5.0}, [3e18, 4e18], [3.0, 4.0]),
        ({"max_norm": 5.0}, [3e25, 4e25], [0.0, 0.0]),
        ({"max_abs": 5.0}, [3e25, -4e25], [5.0, -5.0]),
    ],
)
def test_extreme_cotangents(limits, cotangent, expected):
    rows_close(arriving(jnp.array(cotangent), **limits), expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("value", [5.0, jnp.float16(5.0), np.float64(5.0), 5])
def test_half_precision_keeps_its_dtype(dtype, value):
    cotangent = jnp.array([300.0, 400.0], dtype)
    found = arriving(cotangent, max_norm=value)  # 300**2 is infinite in float16.
    assert (found.dtype, found.tolist()) == (dtype, [3.0, 4.0])
    found = jax.jit(lambda t: arriving(cotangent, max_abs=t))(value)
    assert (found.dtype, found.tolist()) == (dtype, [5.0, 5.0])


# ---------------------------------------------------------------------- second order


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_finite_to_second_order_at_a_zero_cotangent(limit):
    fun = lambda x: half_square(x, **{limit: 1.0})  # noqa: E731
    zero, eye = jnp.zeros(2), [[1.0, 0.0], [0.0, 1.0]]
    assert jax.hessian(fun)(zero).tolist() == eye
    assert jax.jacrev(jax.grad(fun))(zero).tolist() == eye
    for value in (0.0, 1.0, INF):
        slope = lambda t: jnp.sum(jax.grad(half_square)(zero, **{limit: t}))  # noqa: E731
        assert float(jax.grad(slope)(value)) == 0.0


def test_second_derivatives_inside_and_outside():
    # Outside, the gradient x / |x| has the derivative (I - u u^T) / |x|.
    hessian = jax.jit(jax.hessian(lambda x: half_square(x, max_norm=1.0)))
    rows_close(hessian(jnp.array([3.0, 4.0])), [[0.128, -0.096], [-0.096, 0.072]])
    assert hessian(jnp.array([0.3, 0.4])).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    element = jax.hessian(lambda x: half_square(x, max_abs=1.0))
    assert element(jnp.array([3.0, 0.4])).tolist() == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    # d/dt of [t, -t] and of t * [0.6, -0.8]; nothing where the clip does not bind.
    [
        ("max_abs", 2.0, [1.0, -1.0]),
        ("max_abs", 9.0, [0.0, 0.0]),
        ("max_norm", 2.0, [0.6, -0.8]),
        ("max_norm", 9.0, [0.0, 0.0]),
    ],
)
def test_an_outer_derivative_sees_the_threshold(limit, value, expected):
    def slopes(t):
        return jax.grad(half_square)(X, **{limit: t})

    rows_close(jax.jit(jax.jacrev(slopes))(value), expected)
    rows_close(jax.jit(jax.jacfwd(slopes))(value), expected)
    assert float(jax.grad(lambda t: half_square(X, **{limit: t}))(value)) == 0.0


def test_a_threshold_is_learned_by_gradient_descent():
    def outer(t):  # One inner step from x = 5 with rate 1 should end at 3.
        stepped = 5.0 - jax.grad(half_square)(5.0, max_abs=t)
        return 0.5 * (stepped - 3.0) ** 2

    t = jnp.array(0.5)
    for _ in range(20):
        t -= 0.5 * jax.grad(outer)(t)
    assert float(t) == pytest.approx(2.0, rel=1e-4)


# ------------------------------------------------------------------- transformations

LIMITED = {"max_abs": 3.0, "max_norm": 2.0}


def chain(x, limits):
    """Two clips with something between, as in a network."""
    hidden = clip_gradient(jnp.tanh(x) * 5.0, **limits)
    return jnp.sum(clip_gradient(hidden**3, **limits) ** 2)


@pytest.mark.slow
def test_jit_and_remat_change_nothing():
    plain = jax.grad(chain)(X, LIMITED)
    assert jnp.linalg.norm(plain) > 0
    for made in (jax.jit(chain), jax.checkpoint(chain), jax.checkpoint(jax.jit(chain))):
        for slope in (jax.grad(made), jax.jit(jax.grad(made))):
            # The slope of tanh(4) is a difference that leaves few digits.
            np.testing.assert_allclose(slope(X, LIMITED), plain, rtol=1e-4)


def test_each_example_is_clipped_by_itself_under_vmap():
    slopes = jax.vmap(jax.grad(lambda x: half_square(x, max_norm=1.0)))
    rows = slopes(jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    rows_close(rows, [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])


def test_the_gradient_of_a_sum_over_examples_clips_each():
    def total(x):
        return jnp.sum(jax.vmap(lambda row: half_square(row, max_norm=1.0))(x))

    rows = jax.jit(jax.grad(total))(jnp.array([[3.0, 4.0], [0.3, 0.4]]))
    rows_close(rows, [[0.6, 0.8], [0.3, 0.4]])


@pytest.mark.parametrize("limit", LIMITS)
def test_thresholds_are_swept_by_vmap(limit):
    swept = jax.vmap(lambda t: arriving(X, **{limit: t}))(jnp.array([0.0, 2.0, INF]))
    cut = [2.0, -2.0] if limit == "max_abs" else [1.2, -1.6]
    rows_close(swept, [[0.0, 0.0], cut, [3.0, -4.0]])


def test_every_step_of_a_scan_is_clipped():
    def end(x):
        def step(x, _):
            return clip_gradient(3.0 * x, max_abs=2.0), None

        return 10.0 * jax.lax.scan(step, x, length=2)[0]

    # 10 is cut to 2, times 3 is 6, cut to 2, times 3.
    assert float(jax.grad(end)(1.0)) == 6.0
    assert float(jax.jit(jax.grad(jax.checkpoint(end)))(1.0)) == 6.0


@pytest.mark.slow
def test_gradients_of_gradients():
    cube = lambda x: clip_gradient(x, max_abs=100.0) ** 3  # noqa: E731
    assert float(jax.grad(jax.grad(cube))(2.0)) == 12.0
    assert float(jax.hessian(cube)(2.0)) == 12.0
    assert [float(v) for v in jax.jvp(jax.grad(cube), (2.0,), (1.0,))] == [12.0, 12.0]
    assert float(jax.jit(jax.grad(jax.jit(jax.grad(cube))))(2.0)) == 12.0
    third = jax.grad(jax.grad(jax.grad(lambda x: clip_gradient(x, max_norm=1e3) ** 3)))
    assert float(third(2.0)) == 6.0


@pytest.mark.parametrize("compiled", [False, True])
def test_forward_mode_is_refused_in_one_sentence(compiled):
    fun = lambda x: jax.jvp(clip_gradient_to_one, (x,), (1.0,))  # noqa: E731
    with pytest.raises(TypeError) as caught:
        (jax.jit(fun) if compiled else fun)(2.0)
    text = str(caught.value)
    assert "forward-mode" in text and "custom_vjp" in text
    assert text.count(".") == 1 and "\n" not in text


def clip_gradient_to_one(x):
    return clip_gradient(x, max_abs=1.0)


def test_forward_mode_works_where_nothing_is_clipped():
    assert float(jax.jvp(clip_gradient, (2.0,), (3.0,))[1]) == 3.0


# -------------------------------------------------------------------------- refusals


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1.0, ValueError, "{}=-1.0: expected a number >= 0 or None"),
        (-2, ValueError, "{}=-2: expected a number >= 0 or None"),
        (jnp.float32(-3.0), ValueError, "{}=-3.0: expected a number >= 0 or None"),
        (np.float64(-4.0), ValueError, "{}=-4.0: expected a number >= 0 or None"),
        (jnp.ones(2), ValueError, "{}: expected a scalar, got the shape (2,)"),
        (np.ones((1, 1)), ValueError, "{}: expected a scalar, got the shape (1, 1)"),
        (True, TypeError, "{}: expected a real number, got bool"),
        (1j, TypeError, "{}: expected a real number, got complex64"),
        ("1.0", TypeError, "{}: expected a real number, got str"),
        ([1.0], TypeError, "{}: expected a real number, got list"),
    ],
)
def test_thresholds_that_are_refused(limit, value, error, message):
    with pytest.raises(error) as caught:
        clip_gradient(1.0, **{limit: value})
    assert str(caught.value) == message.format(limit)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (3, "x: expected a floating dtype, got int32"),
        (jnp.arange(3), "x: expected a floating dtype, got int32"),
        ({"a": 1.0, "b": True}, "x['b']: expected a floating dtype, got bool"),
        (jnp.ones(2, jnp.complex64), "x: expected a floating dtype, got complex64"),
    ],
)
def test_what_has_no_gradient_is_refused(x, message):
    with pytest.raises(TypeError) as caught:
        clip_gradient(x, max_abs=1.0)
    assert str(caught.value) == message
    with pytest.raises(TypeError):
        clip_gradient(x)


@pytest.mark.usefixtures("unchecked")
def test_a_refused_threshold_inside_a_trace():
    with pytest.raises(ValueError, match=r"^max_norm: .* got the shape \(3,\)"):
        jax.jit(lambda t: clip_gradient(X, max_norm=t))(jnp.ones(3))
