"""Mixed mode: the derivatives of `jax.grad` and of `scan`, for less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff.clip import clip_gradient
from rl_grads.autodiff.mixed_mode import (
    _root,
    is_true_derivative,
    mixed_mode_grad,
    unroll,
)
from rl_grads.autodiff.surrogates import straight_through

pytestmark = pytest.mark.usefixtures("double_precision")


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def td(theta, beta, eta, x):
    """Half the squared TD error of a tanh network, bootstrapped from `beta`."""
    v_tm1 = jnp.tanh(x["s"] @ theta["a"]) @ theta["b"]
    v_t = jnp.tanh(x["s2"] @ beta["a"]) @ beta["b"]
    error = x["r"] + eta["discount"] * v_t - v_tm1
    return 0.5 * jnp.mean(eta["weight"] * x["kept"] * error**2)


def example():
    theta = {"a": normal(0, 3, 4), "b": normal(1, 4)}
    eta = {"discount": jnp.array(0.9), "weight": jnp.exp(normal(2, 5))}
    x = {
        "s": normal(3, 5, 3),
        "s2": normal(4, 5, 3),
        "r": normal(5, 5),
        "kept": jnp.array([1, 0, 1, 1, 1]),
    }
    return theta, eta, x


def learned(grad, loss=td, rate=0.3, steps=3):
    """A number that depends on the parameters after a few semi-gradient updates."""

    def outer(theta, eta, x):
        for _ in range(steps):
            gradient = grad(loss)(theta, theta, eta, x)
            theta = jax.tree.map(lambda p, g: p - rate * g, theta, gradient)
        return sum(jnp.sum(jnp.sin(p)) for p in jax.tree.leaves(theta))

    return outer


def assert_close(found, expected, rtol=1e-12):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol, 1e-14), found, expected
    )


# ------------------------------------------------------------------------ the gradient


def test_the_worked_example():
    # d/d theta of 0.5 eta (theta - x)^2 is eta (theta - x) = -2 eta at theta 1, x 3.
    def outer(eta):
        loss = lambda theta, eta, x: 0.5 * eta * (theta - x) ** 2  # noqa: E731
        return 1.0 - 0.5 * mixed_mode_grad(loss)(1.0, eta, 3.0)

    assert float(outer(1.0)) == 2.0
    assert float(jax.grad(outer)(1.0)) == 1.0


@pytest.mark.parametrize("argnums", [0, 2, -3, (0, 1), (1, 0), (-2,)])
def test_values_are_those_of_grad(argnums):
    def loss(a, b, c):
        return a["x"] * jnp.sum(b**2) + jnp.sum(c * b)

    args = {"x": jnp.array(2.0)}, normal(0, 3), normal(1, 3)
    expected = jax.grad(loss, argnums)(*args)
    assert_close(mixed_mode_grad(loss, argnums)(*args), expected)


@pytest.mark.slow
def test_derivatives_are_those_of_reverse_mode_and_of_differences():
    theta, eta, x = example()
    plain = jax.jit(jax.grad(learned(jax.grad), (0, 1)))(theta, eta, x)
    mixed = jax.jit(jax.grad(learned(mixed_mode_grad), (0, 1)))(theta, eta, x)
    assert_close(mixed, plain)
    outer, h = jax.jit(learned(mixed_mode_grad)), 1e-6

    def at(discount):
        return outer(theta, eta | {"discount": discount}, x)

    slope = (at(0.9 + h) - at(0.9 - h)) / (2 * h)
    np.testing.assert_allclose(mixed[1]["discount"], slope, 1e-8)


@pytest.mark.slow
def test_what_the_loss_closes_over_has_its_derivative_too():
    theta, eta, x = example()

    def outer(theta, eta, x):
        loss = lambda p: td(p, theta, eta, x)  # noqa: E731
        return jnp.sum(mixed_mode_grad(loss)(theta)["b"] ** 3)

    def plain(theta, eta, x):
        return jnp.sum(jax.grad(td)(theta, theta, eta, x)["b"] ** 3)

    found = jax.jit(jax.grad(outer, (0, 1)))(theta, eta, x)
    assert_close(found, jax.grad(plain, (0, 1))(theta, eta, x))


@pytest.mark.slow
def test_aux_passes_through_with_its_derivative():
    theta, eta, x = example()

    def loss(theta, eta, x):
        value = td(theta, theta, eta, x)
        return value, {"value": value**2, "count": jnp.sum(x["kept"])}

    def outer(grad):
        def total(theta, eta):
            gradient, aux = grad(loss, has_aux=True)(theta, eta, x)
            return jnp.sum(gradient["a"] ** 2) + aux["value"] * aux["count"]

        return jax.grad(total, (0, 1))(theta, eta)

    gradient, aux = mixed_mode_grad(loss, has_aux=True)(theta, eta, x)
    assert_close(gradient, jax.grad(loss, has_aux=True)(theta, eta, x)[0])
    assert int(aux["count"]) == 4
    assert_close(outer(mixed_mode_grad), outer(jax.grad))


def test_static_arguments_stay_python_values():
    def loss(theta, flag, name, nothing, scale):
        assert flag is True and name == "x" and nothing is None
        return scale * theta**2

    assert float(mixed_mode_grad(loss)(3.0, True, "x", None, 0.5)) == 3.0


@pytest.mark.slow
def test_it_works_inside_vmap_scan_and_remat():
    theta, eta, x = example()
    thetas = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), theta)

    def outer(grad):
        def one(theta, eta):
            def step(p, _):
                gradient = grad(td)(p, p, eta, x)
                return jax.tree.map(lambda p, g: p - 0.1 * g, p, gradient), None

            end, _ = jax.lax.scan(jax.checkpoint(step), theta, length=4)
            return jnp.sum(end["b"])

        total = lambda eta: jnp.sum(jax.vmap(one, (0, None))(thetas, eta))  # noqa: E731
        return jax.jit(jax.grad(total))(eta)

    assert_close(outer(mixed_mode_grad), outer(jax.grad))


@pytest.mark.slow
def test_it_can_be_differentiated_once_more():
    theta, eta, x = example()

    def curvature(grad):
        outer = learned(grad, steps=2)
        one = lambda d: outer(theta, eta | {"discount": d}, x)  # noqa: E731
        return jax.jit(jax.grad(jax.grad(one)))(0.9)

    assert_close(curvature(mixed_mode_grad), curvature(jax.grad))


def test_forward_mode_is_refused():
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(mixed_mode_grad(lambda x: x**3), (1.0,), (1.0,))


@pytest.mark.slow
def test_it_needs_a_fraction_of_the_memory():
    """A parameter that comes twice, to learn and to bootstrap, is kept once."""
    width, count = 64, 20
    theta = {"a": normal(0, 4, width), "b": normal(1, width)}
    xs = {"s": normal(2, count, 512, 4), "s2": normal(3, count, 512, 4)}
    xs |= {"r": normal(4, count, 512), "kept": jnp.ones((count, 512))}

    def bytes_of(grad):
        def outer(discount):
            eta = {"discount": discount, "weight": 1.0}

            def step(p, x):
                gradient = grad(td)(p, p, eta, x)
                return jax.tree.map(lambda p, g: p - 0.1 * g, p, gradient), None

            return jnp.sum(unroll(step, theta, xs)[0]["b"])

        compiled = jax.jit(jax.grad(outer)).lower(0.9).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of(mixed_mode_grad) < bytes_of(jax.grad) / 5


# -------------------------------------------------------------- gradients that are none


def clipped(theta, beta, eta, x):
    """As `td`, but its first value is clipped inside the graph."""
    v_tm1 = clip_gradient(jnp.tanh(x["s"] @ theta["a"]) @ theta["b"], eta["clip"])
    v_t = jnp.tanh(x["s2"] @ beta["a"]) @ beta["b"]
    return 0.5 * jnp.sum((x["r"] + eta["discount"] * v_t - v_tm1) ** 2)


def stopped(theta, beta, eta, x):
    v_tm1 = jnp.tanh(x["s"] @ theta["a"]) @ theta["b"]
    v_t = jnp.tanh(x["s2"] @ theta["a"]) @ theta["b"]
    target = jax.lax.stop_gradient(x["r"] + eta["discount"] * v_t)
    return 0.5 * jnp.mean((target - v_tm1) ** 2)


def rounded(theta, beta, eta, x):
    features = straight_through(jnp.round)(x["s"] @ theta["a"])
    return jnp.sum(eta["discount"] * jnp.sin(features @ theta["b"]))


@pytest.mark.slow
@pytest.mark.parametrize("loss", [clipped, stopped, rounded])
def test_a_surrogate_inside_is_recognised(loss):
    theta, eta, x = example()
    eta["clip"] = jnp.array(0.5)
    assert not is_true_derivative(jax.make_jaxpr(loss)(theta, theta, eta, x).jaxpr)
    both = [
        jax.jit(jax.grad(learned(grad, loss, rate=0.05), (0, 1)))(theta, eta, x)
        for grad in (jax.grad, mixed_mode_grad)
    ]
    assert_close(both[1], both[0])


@pytest.mark.slow
def test_the_threshold_of_a_clip_has_its_derivative():
    theta, eta, x = example()
    outer, h = jax.jit(learned(mixed_mode_grad, clipped, rate=0.05)), 1e-6

    def at(clip):
        return outer(theta, eta | {"clip": clip}, x)

    slope = (at(0.5 + h) - at(0.5 - h)) / (2 * h)
    found = float(jax.grad(at)(0.5))
    assert abs(found) > 1e-2
    np.testing.assert_allclose(found, slope, 1e-7)


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (jnp.tanh, True),
        (jax.nn.relu, True),
        (lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=2)[0], True),
        (jax.lax.stop_gradient, False),
        (lambda x: jax.jit(clip_gradient)(x, 1.0), False),
        (lambda x: jax.lax.cond(x > 0, jax.lax.stop_gradient, jnp.sin, x), False),
        (jax.checkpoint(straight_through(jnp.round)), False),
    ],
)
def test_true_derivatives(fun, expected):
    assert is_true_derivative(jax.make_jaxpr(fun)(1.0).jaxpr) is expected


# ---------------------------------------------------------------------------- unrolling


def step(carry, x):
    new = jnp.sin(carry["w"] * x["a"]) + carry["w"]
    return {"w": new, "count": carry["count"] + 1}, {"seen": new, "x": x["a"]}


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [None, "step", "sqrt", 1, 2, 3, 7, 100])
@pytest.mark.parametrize("length", [1, 7])
def test_unroll_is_scan(checkpoint, length):
    xs = {"a": normal(0, length, 3)}
    start = {"w": normal(1, 3), "count": jnp.int32(0)}
    expected = jax.lax.scan(step, start, xs)
    assert_close(unroll(step, start, xs, checkpoint), expected)

    def total(scan):
        def outer(w, xs):
            end, ys = scan(step, start | {"w": w}, xs)
            return jnp.sum(end["w"]) + jnp.sum(ys["seen"] ** 2)

        return jax.grad(outer, (0, 1))(start["w"], xs)

    found = total(lambda *args: unroll(*args, checkpoint))
    assert_close(found, total(jax.lax.scan))


@pytest.mark.parametrize("checkpoint", [None, "step", "sqrt", 2])
def test_unroll_without_inputs(checkpoint):
    end, ys = unroll(lambda c, _: (2 * c, c), 1.0, None, checkpoint, length=5)
    assert (float(end), ys.tolist()) == (32.0, [1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("checkpoint", ["squrt", 0, -1, True, 1.5])
def test_other_checkpoints_are_refused(checkpoint):
    with pytest.raises(ValueError, match=f"checkpoint={checkpoint!r}: expected None"):
        unroll(lambda c, x: (c, None), 0.0, jnp.zeros(3), checkpoint)


@pytest.mark.slow
def test_checkpoints_save_memory():
    xs = normal(0, 100, 1000)

    def bytes_of(checkpoint):
        def outer(w):
            def long_step(c, x):
                for _ in range(5):
                    c = jnp.sin(c + x)
                return c, None

            return jnp.sum(unroll(long_step, w, xs, checkpoint)[0])

        compiled = jax.jit(jax.grad(outer)).lower(xs[0]).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    plain, each, root = map(bytes_of, (None, "step", "sqrt"))
    assert each < plain / 4
    assert root < plain / 4


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (7, 3), (13, 4), (100, 10), (1000, 25), (97, 10)]
)
def test_segments_divide_where_they_can(count, expected):
    assert _root(count) == expected
