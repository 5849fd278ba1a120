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
    "optimizer", [Adam(b1=0.0, eps=0.1), RMSProp(eps=1e-8), Adam(b1=0.0, b2=0.5)]
)
def test_an_update_without_momentum_is_the_preconditioned_gradient(optimizer):
    state, update = trained(Config(optimizer=optimizer))
    scale = optimizers.preconditioner(Config(optimizer=optimizer), state)
    expected = -optimizer.learning_rate * scale["w"] * GRADIENTS[-1]
    np.testing.assert_allclose(update["w"], expected, rtol=1e-4)


def test_a_clip_of_the_update_does_not_hide_it():
    clip = Gradient(update=UpdateClip(clip="global_norm", max_norm=1e3))
    config = Config(optimizer=Adam(), gradient=clip)
    plain = optimizers.preconditioner(Config(), trained(Config())[0])
    found = optimizers.preconditioner(config, trained(config)[0])
    jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_sgd_scales_all_alike():
    config = Config(optimizer=SGD(momentum=0.9))
    assert optimizers.preconditioner(config, trained(config)[0]) is None
