"""Networks from configs: shapes, types, literal outputs, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents import networks
from rl_grads.agents.schema import MLP, Convolution, Linear
from rl_grads.config import ConfigError
from rl_grads.training.schema import Config

KEY = jax.random.key(0)


def made(section, obs, num_outputs: int = 2):
    network = networks.make(Config(network=section), num_outputs)
    return network, network.init(KEY, obs)


@pytest.mark.parametrize(
    ("section", "shape"),
    [
        (MLP(hidden=(8, 4)), (3,)),
        (MLP(hidden=()), (3,)),
        (MLP(hidden=(8,), activation="tanh", layer_norm=True), (2, 3)),
        (Linear(), (2, 3)),
        (Convolution(channels=2, hidden=(4,)), (5, 6, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8, jnp.int32])
def test_outputs(section, shape, dtype):
    obs = jnp.ones(shape, dtype)
    network, params = made(section, obs)
    out = network.apply(params, obs)
    assert (out.shape, out.dtype) == ((2,), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("section", [MLP(hidden=(4,), layer_norm=True), Linear()])
def test_float64(section):
    with jax.enable_x64(True):
        network, params = made(section, jnp.ones(3, jnp.float32))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
            jnp.dtype("float64")
        }
        assert network.apply(params, jnp.ones(3, jnp.float32)).dtype == jnp.float64


def test_the_shapes_of_an_mlp():
    _, params = made(MLP(hidden=(8, 4)), jnp.ones(3))
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert sorted(kernels) == [(3, 8), (4, 2), (8, 4)]


def test_layer_norm_has_no_parameters_and_normalises():
    obs = jnp.array([1.0, -2.0, 3.0])
    plain, params = made(MLP(hidden=(8,)), obs)
    normal, own = made(MLP(hidden=(8,), layer_norm=True), obs)
    assert jax.tree.structure(params) == jax.tree.structure(own)
    # The output of a normalised layer does not change when its input is scaled.
    a, b = (normal.apply(params, c * obs) for c in (1.0, 100.0))
    np.testing.assert_allclose(a, b, rtol=1e-3)
    assert not np.allclose(plain.apply(params, obs), plain.apply(params, 100 * obs))


def test_biases_let_a_normalised_layer_see_how_long_an_observation_is():
    obs = jnp.linspace(-1.0, 1.0, 100)
    normal, params = made(MLP(hidden=(400, 8), layer_norm=True), obs)
    a, b = (normal.apply(params, c * obs) for c in (0.1, 0.2))
    assert np.abs(a - b).max() > 0.1
    first, second, last = (p["bias"] for p in params["params"].values())
    assert 0.09 < first.max() < 0.1  # 100 numbers go in.
    assert -0.1 < first.min() < -0.09
    assert 0 < np.abs(second).max() < 0.05  # 400
    assert not last.any()


def test_linear_by_hand():
    obs = jnp.array([[3.0], [4.0]])
    network, params = made(Linear(initial_weights=(1.0, 2.0)), obs)
    assert params["w"].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert network.apply(params, obs).tolist() == [11.0, 11.0]
    network, params = made(Linear(initial_value=0.5), obs)
    assert network.apply(params, obs).tolist() == [3.5, 3.5]


def test_one_weight_per_feature():
    with pytest.raises(ConfigError) as caught:
        made(Linear(initial_weights=(1.0, 2.0, 3.0)), jnp.ones(2))
    assert str(caught.value) == (
        "network.initial_weights: expected 2 numbers, one per feature, got 3"
    )


def test_a_single_weight_is_not_spread_over_the_features():
    with pytest.raises(ConfigError, match="expected 2 numbers"):
        made(Linear(initial_weights=(1.0,)), jnp.ones(2))


def test_a_convolution_wants_frames():
    with pytest.raises(ConfigError, match=r"channels\], got the shape \(4,\)"):
        made(Convolution(), jnp.ones(4))


def test_the_scale_of_a_convolution():
    obs = jax.random.normal(KEY, (5, 5, 1))
    network, params = made(Convolution(channels=2, hidden=(4,), scale=0.5), obs)
    plain, _ = made(Convolution(channels=2, hidden=(4,)), obs)
    np.testing.assert_allclose(
        network.apply(params, obs), plain.apply(params, 0.5 * obs), rtol=1e-6
    )


def test_the_shapes_of_a_convolution():
    section = Convolution(channels=16, hidden=(128,))
    network = networks.make(Config(network=section), 6)
    params = jax.eval_shape(network.init, KEY, jnp.ones((10, 10, 4)))
    shapes = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert sorted(shapes) == [(3, 3, 4, 16), (128, 6), (1024, 128)]


def test_seeds_differ():
    network = networks.make(Config(), 2)
    first, second = (network.init(jax.random.key(k), jnp.ones(4)) for k in (0, 1))
    assert not np.allclose(
        network.apply(first, jnp.ones(4)), network.apply(second, jnp.ones(4))
    )
