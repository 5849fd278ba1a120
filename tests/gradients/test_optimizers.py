"""Optimizers equal optax with plain numbers, and every number can be traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_grads.config import ConfigError, leaf_paths
from rl_grads.gradients import optimizers
from rl_grads.gradients.schema import SGD, Adam, Gradient, RMSProp, UpdateClip
from rl_grads.training.schema import Config

PARAMS = {"w": np.array([1.0, -2.0, 0.5]), "b": np.array(0.25)}
GRADIENTS = [
    {"w": np.array([0.3, -4.0, 0.0]), "b": np.array(1.0)},
    {"w": np.array([-0.1, 2.0, 3.0]), "b": np.array(-1.0)},
    {"w": np.array([0.2, 0.1, -1.0]), "b": np.array(0.5)},
]


def trained(made: optax.GradientTransformation):
    """The parameters after three updates."""
    params, state = PARAMS, made.init(PARAMS)
    for gradient in GRADIENTS:
        steps, state = made.update(gradient, state, params)
        params = optax.apply_updates(params, steps)
    return params


def from_config(optimizer, clip: UpdateClip | None = None):
    """The same by a config whose numbers are all traced."""
    config = Config(optimizer=optimizer, gradient=Gradient(clip or UpdateClip()))
    return jax.jit(lambda c: trained(optimizers.make(c)))(config)


def equal(found, expected) -> None:
    for name in PARAMS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("optimizer", "same"),
    [
        (SGD(learning_rate=0.1), optax.sgd(0.1)),
        (SGD(learning_rate=0.1, momentum=0.5), optax.sgd(0.1, 0.5)),
        (
            Adam(learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-3, eps_root=1e-2),
            optax.adam(0.01, b1=0.8, b2=0.95, eps=1e-3, eps_root=1e-2),
        ),
        (Adam(), optax.adam(1e-3)),
        (
            RMSProp(learning_rate=0.01, decay=0.8, eps=1e-2),
            optax.rmsprop(0.01, decay=0.8, eps=1e-2),
        ),
        (
            RMSProp(learning_rate=0.01, momentum=0.5),
            optax.rmsprop(0.01, decay=0.99, momentum=0.5),
        ),
    ],
)
def test_an_optimizer_equals_optax(optimizer, same):
    equal(from_config(optimizer), trained(same))


def test_sgd_by_hand():
    found = from_config(SGD(learning_rate=0.5))
    np.testing.assert_allclose(found["w"], [0.8, -1.05, -0.5], rtol=1e-12)
    np.testing.assert_allclose(found["b"], 0.0, atol=1e-15)


def test_momentum_by_hand():
    found = from_config(SGD(learning_rate=1.0, momentum=0.5))
    # Steps 1, -1 + 0.5, 0.5 - 0.25: 0.25 - 1 + 0.5 - 0.25
    np.testing.assert_allclose(found["b"], -0.5, rtol=1e-12)


def test_rmsprop_has_eps_inside_the_root():
    made = optimizers.rmsprop(RMSProp(learning_rate=1.0, decay=0.75, eps=3.0))
    gradient = jnp.array(2.0)
    step, _ = made.update(gradient, made.init(gradient))
    np.testing.assert_allclose(step, -2.0 / 2.0, rtol=1e-12)  # sqrt(0.25 * 4 + 3)


@pytest.mark.parametrize(
    ("clip", "same"),
    [
        (UpdateClip("global_norm", max_norm=0.5), optax.clip_by_global_norm(0.5)),
        (UpdateClip("element", max_abs=0.25), optax.clip(0.25)),
    ],
)
@pytest.mark.parametrize(
    ("optimizer", "unclipped"),
    [(SGD(learning_rate=0.1), optax.sgd(0.1)), (Adam(), optax.adam(1e-3))],
)
def test_a_clip_comes_before_the_optimizer(optimizer, unclipped, clip, same):
    equal(from_config(optimizer, clip), trained(optax.chain(same, unclipped)))


def clipped(clip: UpdateClip, gradient):
    config = Config(optimizer=SGD(learning_rate=1.0), gradient=Gradient(update=clip))
    made = optimizers.make(config)
    step, _ = made.update(gradient, made.init(gradient))
    return jax.tree.map(lambda x: np.round(-x, 12).tolist(), step)


def test_clips_by_hand():
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([-4.0])}  # Norm 5.
    norm = UpdateClip("global_norm", max_norm=2.5)
    assert clipped(norm, gradient) == {"a": [1.5, 0.0], "b": [-2.0]}
    wide = UpdateClip("global_norm", max_norm=10.0)
    assert clipped(wide, gradient) == {"a": [3.0, 0.0], "b": [-4.0]}
    element = UpdateClip("element", max_abs=3.5)
    assert clipped(element, gradient) == {"a": [3.0, 0.0], "b": [-3.5]}
    assert clipped(UpdateClip(), gradient) == {"a": [3.0, 0.0], "b": [-4.0]}


def test_two_learning_rates_share_one_program():
    program = jax.jit(lambda c: trained(optimizers.make(c)))
    rates = (0.1, 0.01)
    made = [program(Config(optimizer=SGD(learning_rate=rate))) for rate in rates]
    for found, rate in zip(made, rates, strict=True):
        equal(found, trained(optax.sgd(rate)))
    assert program._cache_size() == 1


def test_the_derivative_in_the_learning_rate():
    def weight(config):
        return trained(optimizers.make(config))["b"]

    slope = jax.grad(weight)(Config(optimizer=SGD(learning_rate=0.1)))
    # b = 0.25 - rate * (1 - 1 + 0.5)
    np.testing.assert_allclose(slope.optimizer.learning_rate, -0.5, rtol=1e-12)
    assert "optimizer.learning_rate" in leaf_paths(slope)


# ---------------------------------------------------------------- layers by themselves

LAYERS = {"params": {"one": {"w": 1.0, "b": 2.0}, "two": {"w": 1.0}}}


@pytest.mark.parametrize("optimizer", [SGD, Adam, RMSProp])
def test_a_layer_has_a_step_size_of_its_own(optimizer):
    def moved(factors):
        config = Config(optimizer=optimizer(layer_factors=factors))
        made = optimizers.make(config)
        return made.update(LAYERS, made.init(LAYERS), LAYERS)[0]["params"]

    plain, scaled = moved({}), moved({"two": 0.25})
    assert jax.tree.leaves(scaled["one"]) == jax.tree.leaves(plain["one"])
    np.testing.assert_allclose(scaled["two"]["w"], 0.25 * plain["two"]["w"])


def test_an_unknown_layer_is_refused():
    config = Config(optimizer=SGD(layer_factors={"tow": 0.5}))
    with pytest.raises(ConfigError) as caught:
        optimizers.make(config).init(LAYERS)
    assert str(caught.value) == (
        "optimizer.layer_factors.tow: expected a layer of the network (one, two); did "
        "you mean 'two'?"
    )
