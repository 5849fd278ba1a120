"""Products without matrices: equal to the dense matrices, and one program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import autodiff

ORDERS = ["fwd_rev", "rev_fwd", "rev_rev"]


class Pair(NamedTuple):
    """Parameters that are a NamedTuple: one argument, not two."""

    w: jax.Array
    b: jax.Array


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def tanh_squares(x):
    return jnp.sum(jnp.tanh(x) ** 2) + jnp.prod(jnp.cos(x[0]))


def layer(params):
    out = jnp.tanh(params["w"] @ jnp.array([1.0, -2.0, 0.5]) + params["b"])
    return {"out": out, "square": jnp.sum(out**2)}


PARAMS = {"w": normal(1, 4, 3), "b": normal(2, 4)}


# ------------------------------------------------------------------------------- hvp


@pytest.mark.parametrize("order", ORDERS)
def test_a_product_by_hand(order):
    def fun(x):
        return x[0] ** 2 * x[1]  # Hessian [[2 x1, 2 x0], [2 x0, 0]].

    x, v = jnp.array([1.0, 3.0]), jnp.array([10.0, 100.0])
    assert autodiff.hvp(fun, x, v, order).tolist() == [260.0, 20.0]
    assert autodiff.hvp(fun, (x,), (v,), order=order).tolist() == [260.0, 20.0]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_product_equals_that_with_the_dense_hessian(order):
    x, v = normal(1, 4, 3), normal(2, 4, 3)
    dense = jnp.tensordot(autodiff.hessian(tanh_squares)(x), v, 2)
    product = jax.jit(lambda x, v: autodiff.hvp(tanh_squares, x, v, order))
    np.testing.assert_allclose(product(x, v), dense, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_a_product_on_trees(order):
    def fun(tree):
        return tree["a"][0] ** 2 * tree["b"] + tree["a"][1] ** 3

    x = {"a": jnp.array([1.0, 2.0]), "b": 3.0}
    v = {"a": jnp.array([1.0, 10.0]), "b": 100.0}
    found = jax.jit(lambda x, v: autodiff.hvp(fun, x, v, order))(x, v)
    assert found["a"].tolist() == [206.0, 120.0]  # 6 * 1 + 2 * 100 and 12 * 10
    assert float(found["b"]) == 2.0


@pytest.mark.parametrize("order", ORDERS)
def test_several_arguments_move_together(order):
    def fun(x, y):
        return x**2 * y  # d/dx = 2 x y

    found = autodiff.hvp(fun, (3.0, 5.0), (1.0, 10.0), order)
    assert float(found) == 10.0 + 60.0


def test_a_named_tuple_is_one_argument():
    x, v = Pair(jnp.array(2.0), jnp.array(3.0)), Pair(jnp.array(1.0), jnp.array(0.0))
    found = autodiff.hvp(lambda p: p.w**2 * p.b, x, v)
    assert (float(found.w), float(found.b)) == (6.0, 4.0)


@pytest.mark.slow
def test_a_product_is_linear_and_vmaps_over_tangents():
    x = normal(1, 4, 3)
    many = jax.vmap(lambda v: autodiff.hvp(tanh_squares, x, v))
    basis = jnp.eye(12).reshape(12, 4, 3)
    dense = autodiff.hessian(tanh_squares)(x).reshape(12, 4, 3)
    np.testing.assert_allclose(many(basis), dense, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("order", ["fwd_rev", "rev_rev"])
def test_a_product_passes_a_clip(order):
    def huber(x):
        return 0.5 * jnp.sum(autodiff.clip_gradient(x, max_abs=1.0) ** 2)

    x, v = jnp.array([0.5, 3.0]), jnp.array([7.0, 11.0])
    assert autodiff.hvp(huber, x, v, order).tolist() == [7.0, 0.0]
    with pytest.raises(TypeError, match=r"^order='rev_fwd': expected .*clip_gradient"):
        autodiff.hvp(huber, x, v, "rev_fwd")


def test_an_unknown_order():
    with pytest.raises(ValueError) as caught:
        autodiff.hvp(tanh_squares, 1.0, 1.0, order="fwd")
    assert str(caught.value) == (
        "order='fwd': expected one of 'fwd_rev', 'rev_fwd', 'rev_rev'"
    )


@pytest.mark.parametrize(
    ("tangents", "got"),
    [
        ({"w": jnp.ones(2)}, "{'w': 'float32[2]'}"),
        (jnp.ones(3), "float32[3]"),
        ({"w": jnp.ones(3, jnp.int32)}, "{'w': 'int32[3]'}"),
    ],
)
def test_tangents_are_like_primals(tangents, got):
    with pytest.raises(ValueError) as caught:
        autodiff.hvp(lambda p: jnp.sum(p["w"]), {"w": jnp.ones(3)}, tangents)
    assert str(caught.value) == f"tangents: expected {{'w': 'float32[3]'}}, got {got}"


@pytest.mark.parametrize(
    ("fun", "error", "message"),
    [
        (
            jnp.square,
            ValueError,
            "output of fun: expected a scalar, got the shape (2,)",
        ),
        (
            lambda x: {"y": x[0]},
            TypeError,
            "output of fun: expected a scalar, got a dict",
        ),
        (
            lambda x: jnp.argmax(x),
            TypeError,
            "output of fun: expected a floating dtype, got int32",
        ),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_the_function_is_a_scalar(fun, error, message, order):
    with pytest.raises(error) as caught:
        autodiff.hvp(fun, jnp.ones(2), jnp.ones(2), order)
    assert str(caught.value) == message


def test_primals_are_floating():
    with pytest.raises(TypeError) as caught:
        autodiff.hvp(jnp.sum, (jnp.ones(2), jnp.arange(2)), (jnp.ones(2), jnp.ones(2)))
    assert str(caught.value) == "primals[1]: expected a floating dtype, got int32"


# --------------------------------------------------------------------- jvps and vjps


def looped(product, many):
    rows = [product(jax.tree.map(lambda leaf: leaf[i], many)) for i in range(5)]  # noqa: B023
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def assert_trees_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected
    )


@pytest.mark.slow
def test_forward_products_are_those_of_a_loop():
    tangents = {"w": normal(3, 5, 4, 3), "b": normal(4, 5, 4)}
    expected = looped(lambda t: jax.jvp(layer, (PARAMS,), (t,))[1], tangents)
    found = jax.jit(lambda *args: autodiff.jvps(layer, *args))(PARAMS, tangents)
    assert_trees_close(found, expected)


def test_backward_products_are_those_of_a_loop():
    cotangents = {"out": normal(3, 5, 4), "square": normal(4, 5)}
    pullback = jax.vjp(layer, PARAMS)[1]
    expected = looped(lambda c: pullback(c)[0], cotangents)
    found = jax.jit(lambda *args: autodiff.vjps(layer, *args))(PARAMS, cotangents)
    assert_trees_close(found, expected)


@pytest.mark.slow
def test_products_with_the_identity_are_the_jacobian():
    x = normal(1, 3)
    matrix = normal(2, 2, 3)
    dense = autodiff.jacobian(lambda x: jnp.sin(matrix @ x))(x)
    forward = autodiff.jvps(lambda x: jnp.sin(matrix @ x), x, jnp.eye(3))
    reverse = autodiff.vjps(lambda x: jnp.sin(matrix @ x), x, jnp.eye(2))
    np.testing.assert_allclose(forward.T, dense, rtol=1e-6)
    np.testing.assert_allclose(reverse, dense, rtol=1e-6)


@pytest.mark.parametrize("products", [autodiff.jvps, autodiff.vjps])
def test_many_products_are_one_matrix_product(products):
    """A loop, unrolled or not, would show K products or a loop in the program."""
    matrix = normal(1, 3, 3)
    jaxpr = jax.make_jaxpr(
        lambda many: products(lambda x: matrix @ x, jnp.ones(3), many)
    )
    text = str(jaxpr(normal(2, 64, 3)))
    # The function's own value is one more.
    assert text.count("dot_general[") == 2
    assert "scan" not in text and "while" not in text


@pytest.mark.parametrize(
    ("products", "name"), [(autodiff.jvps, "tangents"), (autodiff.vjps, "cotangents")]
)
@pytest.mark.parametrize("many", [jnp.ones(3), jnp.ones((2, 4)), jnp.ones((0, 3)), 1.0])
def test_the_vectors_are_a_stack(products, name, many):
    with pytest.raises(ValueError) as caught:
        products(jnp.sin, jnp.ones(3), many)
    shape = ",".join(map(str, jnp.shape(many)))
    assert str(caught.value) == (
        f"{name}: expected float32[K,3] with one K >= 1, got float32[{shape}]"
    )


def test_all_leaves_have_the_same_number_of_vectors():
    with pytest.raises(ValueError, match="with one K >= 1, got"):
        autodiff.jvps(layer, PARAMS, {"w": normal(3, 5, 4, 3), "b": normal(4, 6, 4)})


@pytest.mark.parametrize("products", [autodiff.jvps, autodiff.vjps])
def test_where_is_floating(products):
    with pytest.raises(TypeError) as caught:
        products(jnp.sin, jnp.arange(3), jnp.ones((2, 3)))
    assert str(caught.value) == "primal: expected a floating dtype, got int32"
    with pytest.raises(TypeError, match=r"^output of fun: expected a floating dtype"):
        products(lambda x: x > 0, jnp.ones(3), jnp.ones((2, 3)))


@pytest.mark.slow
def test_forward_products_do_not_pass_a_clip():
    def clipped(x):
        return autodiff.clip_gradient(x, max_abs=1.0)

    with pytest.raises(TypeError, match=r"^jvps: expected .*; use vjps"):
        autodiff.jvps(clipped, jnp.ones(3), jnp.ones((2, 3)))
    found = autodiff.vjps(clipped, jnp.ones(3), 2 * jnp.eye(3))
    assert found.tolist() == jnp.eye(3).tolist()
