"""The clip at a network's output turns the squared TD error into Huber's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents.agent import clipped_loss
from rl_grads.agents.networks import Network
from rl_grads.agents.schema import QLearning
from rl_grads.gradients.clips import clipped_output
from rl_grads.gradients.estimators import mean_gradient
from rl_grads.gradients.schema import Gradient, GraphClip
from rl_grads.td import Transition, losses
from rl_grads.training.schema import Config

LINEAR = Network(lambda key, obs: None, lambda params, obs: params @ obs)


def batch(rewards):
    """One-step episodes from one state: the TD error of a zero network is r."""
    count = len(rewards)
    ones, flags = jnp.ones((count, 1)), jnp.ones(count, bool)
    zeros = jnp.zeros(count)
    actions = jnp.zeros(count, int)
    r_t = jnp.asarray(rewards)
    return Transition(ones, actions, r_t, ones, flags, ~flags, zeros, zeros + 1)


def gradient(rewards, clip):
    config = Config(agent=QLearning(), gradient=Gradient(clip=clip))
    loss = clipped_loss(losses.q_learning, LINEAR)
    params = jnp.zeros((2, 1))
    return mean_gradient().update(
        (), jax.random.key(0), loss, params, params, batch(rewards), None, config
    )[0]


@pytest.mark.parametrize("clip", [GraphClip(max_abs=1.0), GraphClip(max_norm=1.0)])
def test_each_example_is_clipped_before_the_mean(clip):
    # TD errors 0.5, 4 and -8 give slopes -0.5, -1 and 1: their mean is -1/6.
    slopes = gradient([0.5, 4.0, -8.0], clip)
    np.testing.assert_allclose(slopes, [[-1 / 6], [0.0]], rtol=1e-6)


def test_without_a_limit_the_network_itself_comes_back():
    assert clipped_output(LINEAR, GraphClip()) is LINEAR
    slopes = gradient([0.5, 4.0, -8.0], GraphClip())
    np.testing.assert_allclose(slopes, [[3.5 / 3], [0.0]], rtol=1e-6)
