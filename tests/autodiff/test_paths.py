"""Gradients split by path: the parts are right, and they add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff.clip import clip_gradient
from rl_grads.autodiff.paths import along

W = jnp.array([[0.5, -1.0], [0.25, 2.0]])
INPUTS = {"s": jnp.array([1.0, 2.0]), "t": jnp.array([-1.0, 0.5])}


def value(w, x):
    return jnp.sum(jnp.tanh(w @ x))


def error(w, inputs):
    return 0.5 * (0.9 * value(w, inputs["t"]) - value(w, inputs["s"])) ** 2


def slope(w, x):
    return jax.grad(value)(w, x)


def parts(fun, w=W, inputs=INPUTS):
    return {
        kind: jax.jit(jax.grad(along(fun, kind)))(w, inputs) for kind in (*inputs, None)
    }


def test_each_path_by_itself():
    found = parts(error)
    delta = 0.9 * value(W, INPUTS["t"]) - value(W, INPUTS["s"])
    np.testing.assert_allclose(found["s"], -delta * slope(W, INPUTS["s"]), rtol=1e-6)
    np.testing.assert_allclose(
        found["t"], 0.9 * delta * slope(W, INPUTS["t"]), rtol=1e-6
    )
    assert not np.any(found[None])


def penalised(w, inputs):
    return error(w, inputs) + jnp.sum(w**2)


def nested(w, inputs):
    return jax.jit(lambda w, inputs: jax.checkpoint(error)(2.0 * w, inputs))(w, inputs)


def through_one_product(w, inputs):
    both = jnp.stack([inputs["s"], inputs["t"]])
    return jnp.sum(jnp.tanh(both @ w.T)) * value(w, inputs["s"])


def looped(w, inputs):
    def step(total, x):
        return total + value(w, x), None

    total, _ = jax.lax.scan(step, 0.0, inputs["s"][None])
    return total * value(w, inputs["t"])


def with_rules(w, inputs):
    clipped = clip_gradient(value(w, inputs["s"]), max_abs=0.1)
    return jax.nn.relu(clipped) ** 2 - value(w, inputs["t"]) * clipped


@pytest.mark.parametrize(
    "fun", [error, penalised, nested, through_one_product, looped, with_rules]
)
def test_the_parts_add_up(fun):
    found = parts(fun)
    np.testing.assert_allclose(
        sum(found.values()), jax.grad(fun)(W, INPUTS), rtol=1e-5, atol=1e-7
    )
    for kind in found:
        same = along(fun, kind)(W, INPUTS)
        np.testing.assert_allclose(same, fun(W, INPUTS), rtol=1e-6)


def test_what_meets_no_input_or_several_is_the_rest():
    np.testing.assert_allclose(parts(penalised)[None], 2 * W, rtol=1e-6)
    for kind in ("s", "t"):
        np.testing.assert_allclose(parts(penalised)[kind], parts(error)[kind])
    together = parts(through_one_product)
    assert np.any(together[None]) and not np.any(together["t"])


def test_a_stop_ends_its_path_alone():
    def stopped(w, inputs):
        target = jax.lax.stop_gradient(0.9 * value(w, inputs["t"]))
        return 0.5 * (target - value(w, inputs["s"])) ** 2

    found = parts(stopped)
    assert not np.any(found["t"])
    np.testing.assert_allclose(found["s"], parts(error)["s"], rtol=1e-6)


def test_one_example_under_vmap():
    rows = jax.vmap(jax.grad(along(error, "s")), (None, 0))
    stacked = {name: jnp.stack([x, 2.0 * x]) for name, x in INPUTS.items()}
    doubled = {name: 2.0 * x for name, x in INPUTS.items()}
    found = rows(W, stacked)
    np.testing.assert_allclose(found[0], parts(error)["s"], rtol=1e-6)
    np.testing.assert_allclose(found[1], parts(error, W, doubled)["s"], rtol=1e-5)


def test_pytrees_and_integers():
    def fun(params, inputs):
        x = inputs["s"]["x"][inputs["s"]["index"]]
        return {"out": params["a"] * x + params["b"][0] * inputs["t"]}

    params = {"a": 2.0, "b": (3.0, None)}
    inputs = {"t": 5.0, "s": {"x": jnp.arange(4.0), "index": jnp.int32(3)}}
    scalar = jax.grad(lambda p: along(fun, "s")(p, inputs)["out"])
    assert scalar(params) == {"a": 3.0, "b": (0.0, None)}


def test_an_unknown_input_is_refused():
    with pytest.raises(ValueError, match="name='u': expected one of 's', 't' or None"):
        along(error, "u")(W, INPUTS)
