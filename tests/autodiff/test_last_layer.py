"""The last layer of a function, whatever library wrote it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from rl_grads.agents import networks
from rl_grads.agents.schema import MLP, Convolution, Linear
from rl_grads.autodiff.last_layer import last_layer
from rl_grads.training.schema import Config


def names(fun, params, *args) -> set[str]:
    """Paths of the parameters in the last layer."""
    found = last_layer(fun, params, *args)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    leaves, _ = jax.tree_util.tree_flatten_with_path(found)
    keystr = jax.tree_util.keystr
    return {keystr(p, simple=True, separator="/") for p, is_last in leaves if is_last}


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        (MLP(hidden=(8, 8)), (3,), {"params/Dense_2/kernel", "params/Dense_2/bias"}),
        (
            MLP(hidden=(8,), layer_norm=True),
            (3,),
            {"params/Dense_1/kernel", "params/Dense_1/bias"},
        ),
        (MLP(hidden=()), (3,), {"params/Dense_0/kernel", "params/Dense_0/bias"}),
        (Linear(), (3,), {"w"}),
        (
            Convolution(channels=2, hidden=(4,)),
            (5, 5, 2),
            {"params/dense/Dense_1/kernel", "params/dense/Dense_1/bias"},
        ),
    ],
)
def test_the_networks_of_agents(network, shape, expected):
    made = networks.make(Config(network=network), 2)
    params = made.init(jax.random.key(0), jnp.ones(shape))
    assert names(made.apply, params, jnp.ones(shape)) == expected
    best = names(lambda p, x: jnp.max(made.apply(p, x)), params, jnp.ones(shape))
    assert best == expected


class Dueling(nn.Module):
    """Two heads, each a last layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(4, name="torso")(x))
        value, advantage = (
            nn.Dense(1, name="value")(x),
            nn.Dense(3, name="advantage")(x),
        )
        return value + advantage - advantage.mean()


def test_several_heads_are_one_last_layer():
    network = Dueling()
    params = network.init(jax.random.key(0), jnp.ones(3))
    found = names(network.apply, params, jnp.ones(3))
    assert found == {
        f"params/{head}/{leaf}"
        for head in ("value", "advantage")
        for leaf in ("kernel", "bias")
    }


PARAMS = {"a": jnp.ones((3, 3)), "b": jnp.ones((3, 3)), "scale": jnp.ones(3)}


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (lambda p, x: p["b"] @ jnp.tanh(p["a"] @ x), {"b"}),
        (lambda p, x: p["scale"] * (p["b"] @ (p["a"] @ x)), {"b", "scale"}),
        # A skip connection reaches the output beside the last layer.
        (lambda p, x: p["a"] @ x + p["b"] @ jnp.tanh(p["a"] @ x), {"a", "b"}),
        # Parameters alone make no layer: b is a part of the weight.
        (lambda p, x: (p["a"] @ p["b"]) @ x, {"a", "b"}),
        (lambda p, x: jax.jit(lambda y: p["b"] @ y)(p["a"] @ x), {"b"}),
        (lambda p, x: jax.checkpoint(lambda y: p["b"] @ y)(p["a"] @ x), {"b"}),
        (lambda p, x: jnp.dot(p["a"] @ x, p["a"].T @ x), {"a"}),
        (lambda p, x: p["a"][0], {"a"}),
        (lambda p, x: x, set()),
    ],
)
def test_by_hand(fun, expected):
    assert names(fun, PARAMS, jnp.ones(3)) == expected


def test_a_recurrent_cell():
    def unrolled(p, xs):
        def step(h, x):
            return jnp.tanh(p["a"] @ h + p["b"] @ x), None

        return jax.lax.scan(step, jnp.zeros(3), xs)[0]

    assert names(unrolled, PARAMS, jnp.ones((4, 3))) == {"a", "b"}
    below = names(lambda p, x: p["scale"] * unrolled(p, x), PARAMS, jnp.ones((4, 3)))
    assert below == {"a", "b", "scale"}
