"""Derivatives as functions: literal values, agreement of the modes, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import autodiff

MATRIX = jnp.arange(6.0).reshape(3, 2)


def polynomial(x):
    return x**3 + 2 * x**2 - 3 * x + 1


def network(params, x):
    """Two outputs from a tree of parameters: each tanh unit by hand."""
    return {
        "y": jnp.tanh(params["w"] @ x + params["b"]),
        "n": jnp.sum(params["b"] ** 2),
    }


PARAMS = {"w": jnp.array([[0.1, -0.2], [0.3, 0.4]]), "b": jnp.array([0.5, -0.5])}


# ------------------------------------------------------------------------------ nth


@pytest.mark.parametrize(
    ("n", "expected"), [(0, 1.0), (1, 4.0), (2, 10.0), (3, 6.0), (4, 0.0), (5, 0.0)]
)
def test_every_derivative_of_a_polynomial(n, expected):
    assert float(autodiff.nth_derivative(polynomial, n)(1.0)) == expected


def test_a_derivative_of_a_tree_of_outputs_with_a_further_argument():
    def fun(x, rate):
        return {"a": jnp.exp(rate * x), "b": jnp.array([x**2, x**3])}

    third = jax.jit(autodiff.nth_derivative(fun, 3))(0.0, 2.0)
    np.testing.assert_allclose(third["a"], 8.0, rtol=1e-6)
    assert third["b"].tolist() == [0.0, 6.0]


def test_a_derivative_can_be_differentiated_and_vmapped():
    second = autodiff.nth_derivative(polynomial, 2)  # 6 x + 4
    assert jax.vmap(second)(jnp.array([0.0, 1.0])).tolist() == [4.0, 10.0]
    assert float(jax.grad(second)(5.0)) == 6.0


@pytest.mark.parametrize("n", [-1, 1.0, True, None, "2"])
def test_an_order_is_a_whole_number(n):
    with pytest.raises(ValueError) as caught:
        autodiff.nth_derivative(polynomial, n)
    assert str(caught.value) == f"n={n!r}: expected an integer >= 0"


# -------------------------------------------------------------------------- Jacobian


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_the_jacobian_of_a_linear_map_is_its_matrix(mode):
    jacobian = autodiff.jacobian(lambda x: MATRIX @ x, mode)
    assert jacobian(jnp.ones(2)).tolist() == MATRIX.tolist()


def test_jacobians_of_trees_by_hand():
    x = jnp.array([1.0, 2.0])
    slope = 1 - jnp.tanh(PARAMS["w"] @ x + PARAMS["b"]) ** 2
    for mode in ("forward", "reverse"):
        found = jax.jit(autodiff.jacobian(network, mode))(PARAMS, x)
        np.testing.assert_allclose(found["y"]["b"], jnp.diag(slope), rtol=1e-6)
        rows = jnp.einsum("i,ij,k->ijk", slope, jnp.eye(2), x)
        np.testing.assert_allclose(found["y"]["w"], rows, rtol=1e-6)
        assert found["n"]["w"].tolist() == [[0.0, 0.0], [0.0, 0.0]]
        assert found["n"]["b"].tolist() == [1.0, -1.0]


def looped(x):
    """x**16 for x[0] = 2; reverse mode cannot pass a loop of unknown length."""
    return jax.lax.while_loop(lambda y: y[0] < 1e3, lambda y: y * y, x)


@jax.custom_vjp
def reverse_only(x):
    return jnp.sum(x) * jnp.ones(3)


reverse_only.defvjp(lambda x: (reverse_only(x), x), lambda x, c: (sum(c) * x / x,))


def test_auto_is_forward_where_the_input_is_not_larger():
    found = autodiff.jacobian(looped)(jnp.array([2.0, 3.0]))
    np.testing.assert_allclose(found, jnp.diag(16 * jnp.array([2.0, 3.0]) ** 15))
    with pytest.raises(TypeError, match="custom_vjp"):
        autodiff.jacobian(reverse_only)(jnp.ones(3))


def test_auto_is_reverse_where_the_output_is_smaller():
    assert autodiff.jacobian(reverse_only)(jnp.ones(4)).tolist() == [[1.0] * 4] * 3
    with pytest.raises(ValueError, match="Reverse-mode"):
        autodiff.jacobian(lambda x: looped(x)[0])(jnp.array([2.0, 3.0]))


def test_the_mode_is_one_of_three():
    with pytest.raises(ValueError) as caught:
        autodiff.jacobian(polynomial, mode="both")
    assert str(caught.value) == (
        "mode='both': expected one of 'auto', 'forward', 'reverse'"
    )


# --------------------------------------------------------------------------- Hessian


@pytest.mark.parametrize("order", ["fwd_rev", "rev_fwd", "rev_rev"])
def test_the_hessian_of_a_quadratic_form(order):
    matrix = jnp.array([[2.0, 1.0], [1.0, -4.0]])
    hessian = autodiff.hessian(lambda x: 0.5 * x @ matrix @ x, order)
    assert hessian(jnp.array([3.0, 7.0])).tolist() == matrix.tolist()


@pytest.mark.slow
def test_the_hessian_of_a_tree_is_a_tree_of_blocks():
    def fun(tree, scale):
        return scale * jnp.sum(tree["a"]) * tree["b"] ** 2

    found = autodiff.hessian(fun)({"a": jnp.array([1.0, 2.0]), "b": 5.0}, 3.0)
    assert found["a"]["a"].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert found["a"]["b"].tolist() == [30.0, 30.0]
    assert found["b"]["a"].tolist() == [30.0, 30.0]
    assert float(found["b"]["b"]) == 18.0


def test_every_output_gets_its_hessian():
    found = autodiff.hessian(lambda x: jnp.stack([x**2, x**3]))(2.0)
    assert found.tolist() == [2.0, 12.0]


def test_the_order_of_a_hessian_is_one_of_three():
    with pytest.raises(ValueError) as caught:
        autodiff.hessian(polynomial, order="fwd_fwd")
    assert str(caught.value) == (
        "order='fwd_fwd': expected one of 'fwd_rev', 'rev_fwd', 'rev_rev'"
    )


# ------------------------------------------------------------------- vector gradient


def test_a_vector_gradient_has_the_shape_of_the_input():
    x = jnp.arange(6.0).reshape(2, 3)
    found = autodiff.vector_gradient(lambda x: 3.0 * x**2)(x)
    assert found.tolist() == (6.0 * x).tolist()


def test_a_vector_gradient_of_trees_sums_all_outputs():
    def fun(tree, scale):
        return {"u": scale * tree["a"] * tree["b"], "v": tree["b"] ** 2}

    found = autodiff.vector_gradient(fun)({"a": jnp.array([1.0, 2.0]), "b": 3.0}, 2.0)
    assert found["a"].tolist() == [6.0, 6.0]
    assert float(found["b"]) == 12.0  # 2 * (1 + 2) + 2 * 3


# -------------------------------------------------------------------------- refusals

MAKERS = {
    "nth_derivative": lambda fun: autodiff.nth_derivative(fun, 1),
    "jacobian": autodiff.jacobian,
    "hessian": autodiff.hessian,
    "vector_gradient": autodiff.vector_gradient,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    ("value", "dtype"), [(1, "int32"), (True, "bool"), (1j, "complex64"), ("a", "str")]
)
def test_an_input_is_floating(make, value, dtype):
    with pytest.raises(TypeError) as caught:
        make(lambda x: 1.0 * x)(value)
    assert str(caught.value) == f"x: expected a floating dtype, got {dtype}"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_output_is_floating(make):
    with pytest.raises(TypeError) as caught:
        make(lambda x: {"y": x > 0})(1.0)
    assert (
        str(caught.value) == "output of fun['y']: expected a floating dtype, got bool"
    )


def test_a_leaf_of_a_tree_is_named():
    with pytest.raises(TypeError) as caught:
        autodiff.hessian(lambda x: x["a"])({"a": 1.0, "b": [jnp.arange(2)]})
    assert str(caught.value) == "x['b'][0]: expected a floating dtype, got int32"


def test_a_derivative_wants_a_scalar():
    with pytest.raises(ValueError) as caught:
        autodiff.nth_derivative(polynomial, 1)(jnp.ones(2))
    assert str(caught.value) == "x: expected a scalar, got the shape (2,)"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("nth_derivative", autodiff.nth_derivative(reverse_only, 1)),
        ("mode='auto'", autodiff.jacobian(reverse_only)),
        ("mode='forward'", autodiff.jacobian(reverse_only, "forward")),
        ("order='rev_fwd'", autodiff.hessian(reverse_only, "rev_fwd")),
    ],
)
def test_forward_mode_over_a_custom_backward_rule_is_refused_in_a_sentence(name, made):
    with pytest.raises(TypeError) as caught:
        made(1.0)
    text = str(caught.value)
    assert text.startswith(f"{name}: expected a function that forward mode can pass,")
    assert "\n" not in text
    with pytest.raises(TypeError, match="custom_vjp"):  # Maybe in JAX's own words.
        jax.jit(made)(1.0)


def test_other_type_errors_are_not_reworded():
    def fun(x):
        raise TypeError("mine")

    with pytest.raises(TypeError) as caught:
        autodiff.jacobian(fun)(1.0)
    assert str(caught.value) == "mine"
