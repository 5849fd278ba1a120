"""What an optimizer multiplies each element of a gradient by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.gradients import optimizers
from rl_grads.gradients.schema import SGD, Adam, Gradient, RMSProp, UpdateClip
from rl_grads.training.schema import Config

GRADIENTS = jnp.array([[1.0, -2.0, 0.5], [3.0, 0.5, -4.0], [2.0, 1.0, 0.25]])


def trained(config: Config):
    """The optimizer's state after the gradients above, and the last update."""
    optimizer = optimizers.make(config)
    params = {"w": jnp.zeros(3)}
    state, update = optimizer.init(params), None
    for gradient in GRADIENTS:
        update, state = optimizer.update({"w": gradient}, state, params)
    return state, update


@pytest.mark.parametrize(
    "optimizer",
    [
        Adam(b1=0.0, eps=0.1),
        Adam(b1=0.0, b2=0.5),
        Adam(b1=0.0, eps_root=10.0),
        Adam(b1=0.0, layer_factors={"all": 3.0}),
        RMSProp(eps=1e-8),
        RMSProp(eps=10.0),
        RMSProp(eps=10.0, decay=1.0),
        RMSProp(eps=0.1, layer_factors={"all": 0.5}),
    ],
)
def test_an_update_without_momentum_is_the_preconditioned_gradient(optimizer):
    state, update = trained(Config(optimizer=optimizer))
    scale = optimizers.preconditioner(Config(optimizer=optimizer), state)
    expected = -optimizer.learning_rate * scale["w"] * GRADIENTS[-1]
    np.testing.assert_allclose(update["w"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (RMSProp(eps=0.01), 10.0),  # 1 / sqrt(.01 * .001**2 + .01)
        (Adam(eps_root=1e-4), 99.504),  # 1 / sqrt(.001**2 + 1e-4)
        (Adam(eps=0.1), 9.901),  # 1 / (.001 + .1)
    ],
)
def test_eps_stands_where_the_optimizer_has_it(optimizer, expected):
    config = Config(optimizer=optimizer)
    made, params = optimizers.make(config), {"w": jnp.array(0.0)}
    _, state = made.update({"w": jnp.array(1e-3)}, made.init(params), params)
    found = optimizers.preconditioner(config, state)["w"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "expected"), [(Adam(eps=0.1), 10.0), (RMSProp(eps=0.01), 10.0)]
)
def test_an_element_without_a_gradient_so_far_has_the_limit(optimizer, expected):
    config = Config(optimizer=optimizer)
    state = optimizers.make(config).init({"w": jnp.zeros(2)})
    state = optimizers.make(config).update({"w": jnp.array([0.0, 1.0])}, state)[1]
    found = optimizers.preconditioner(config, state)["w"]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert found[1] < expected


def test_the_step_size_is_left_out():
    config = Config(optimizer=Adam(learning_rate=0.0))
    found = optimizers.preconditioner(config, trained(config)[0])
    plain = optimizers.preconditioner(Config(), trained(Config())[0])
    jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_a_clip_of_the_update_does_not_hide_it():
    clip = Gradient(update=UpdateClip(clip="global_norm", max_norm=1e3))
    config = Config(optimizer=Adam(), gradient=clip)
    plain = optimizers.preconditioner(Config(), trained(Config())[0])
    found = optimizers.preconditioner(config, trained(config)[0])
    jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_sgd_scales_all_alike():
    config = Config(optimizer=SGD(momentum=0.9))
    assert optimizers.preconditioner(config, trained(config)[0]) is None
