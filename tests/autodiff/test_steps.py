"""Steps of a long unroll: skipped where not finite, linearized through reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff.clip import clip_gradient
from rl_grads.autodiff.closed import close, split_floats
from rl_grads.autodiff.steps import linearize_through_reverse, skip_nonfinite


def root(state, x):
    """x + sqrt(y), not finite for negative y, with an integer and a key beside."""
    new = state["w"] + jnp.sqrt(x)
    return state | {"w": new, "count": state["count"] + 1}, {"x": x}


def start(w=1.0):
    return {"w": jnp.array(w), "count": jnp.int32(0), "key": jax.random.key(3)}


def outer(w, xs):
    state, (_, taken) = jax.lax.scan(skip_nonfinite(root), start(w), xs)
    return state["w"] ** 2, (state, taken)


def test_a_step_that_is_not_finite_is_not_made():
    _, (state, taken) = outer(1.0, jnp.array([4.0, -1.0, 9.0]))
    assert taken.tolist() == [True, False, True]
    assert (float(state["w"]), int(state["count"])) == (6.0, 2)
    assert jax.random.key_data(state["key"]).tolist() == [0, 3]


@pytest.mark.parametrize("jit", [jax.jit, lambda fun: fun])
def test_the_derivative_passes_by_a_skipped_step(jit):
    # (w + 2 + 3)^2, whose slope in x is 2 (w + 5) / (2 sqrt(x)).
    xs = jnp.array([4.0, -1.0, 9.0])
    slopes, _ = jit(jax.grad(outer, (0, 1), has_aux=True))(1.0, xs)
    assert float(slopes[0]) == 12.0
    np.testing.assert_allclose(slopes[1], [3.0, 0.0, 2.0], rtol=1e-6)


def test_where_alone_would_make_it_nan():
    def naive(x):
        new = 1.0 + jnp.sqrt(x)
        return jnp.where(jnp.isfinite(new), new, 1.0)

    assert np.isnan(jax.grad(naive)(-1.0))


def test_only_what_is_watched_counts():
    step = lambda s, x: ({"w": s["w"] * x, "bound": s["bound"]}, None)  # noqa: E731
    state = {"w": jnp.array(2.0), "bound": jnp.array(jnp.inf)}
    watched = skip_nonfinite(step, watch=lambda s: s["w"])
    assert float(watched(state, 3.0)[0]["w"]) == 6.0
    assert float(skip_nonfinite(step)(state, 3.0)[0]["w"]) == 2.0


def test_what_a_step_closes_over_has_its_derivative():
    def total(rate):
        step = skip_nonfinite(lambda w, x: (w - rate * x, None))
        return step(jnp.array(1.0), 4.0)[0]

    assert float(jax.jit(jax.grad(total))(0.5)) == -4.0


def test_members_are_skipped_one_by_one():
    xs = jnp.array([[4.0], [-1.0]])
    slopes, (_, taken) = jax.vmap(jax.grad(outer, has_aux=True), (None, 0))(1.0, xs)
    assert taken.tolist() == [[True], [False]]
    assert slopes.tolist() == [6.0, 2.0]


def test_the_report_has_a_derivative_unless_skipped():
    def reported(x):
        _, (aux, _) = skip_nonfinite(root)(start(), x)
        return aux["x"] ** 2

    assert float(jax.grad(reported)(3.0)) == 6.0
    assert float(jax.grad(reported)(-3.0)) == 0.0


# ------------------------------------------------------------------------- linearizing


def test_a_push_forward_through_a_backward_rule():
    # The backward rule of x^2 clips at 2: slopes min(2x, 2) along the first input.
    def fun(x, y):
        return {"out": clip_gradient(x, max_abs=2.0) ** 2 + x * y}, jnp.int32(7)

    out, push, aux = linearize_through_reverse(fun, 0.5, 3.0)
    assert (float(out["out"]), int(aux)) == (1.75, 7)
    assert float(push(1.0, 0.0)["out"]) == 4.0
    assert float(push(0.0, 1.0)["out"]) == 0.5
    many = jax.vmap(push)(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
    assert many["out"].tolist() == [4.0, 1.0]


def test_it_agrees_with_linearize():
    fun = lambda w: jnp.tanh(w @ w.T)  # noqa: E731
    w, t = jax.random.normal(jax.random.key(0), (2, 3, 4))
    out, push, _ = linearize_through_reverse(lambda w: (fun(w), None), w)
    expected, tangent = jax.jvp(fun, (w,), (t,))
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_allclose(push(t), tangent, rtol=1e-5)


# ----------------------------------------------------------------------------- closing


def test_closing_finds_every_array_and_leaves_the_rest_alone():
    kept = jnp.arange(3.0)

    def fun(x, name, scale):
        assert (name, scale) == ("a", 2)
        return {"out": scale * jnp.sum(x["w"] * kept)}

    closed = close(fun, ({"w": jnp.ones(3)}, "a", 2))
    assert len(closed.inputs) == 2
    assert closed.places == (1, None, None)
    assert float(closed(closed.inputs)["out"]) == 6.0
    assert float(closed([jnp.ones(3), jnp.ones(3)])["out"]) == 6.0


def test_floats_are_split_from_the_rest():
    tree = {
        "w": jnp.ones(2),
        "count": jnp.int32(3),
        "key": jax.random.key(0),
        "no": None,
    }
    floats, rebuild = split_floats(tree)
    assert [x.tolist() for x in floats] == [[1.0, 1.0]]
    again = rebuild([jnp.zeros(2)])
    assert (again["w"].tolist(), int(again["count"]), again["no"]) == ([0, 0], 3, None)
