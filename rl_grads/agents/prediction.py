"""Value prediction: learns the value of the policy that the environment comes with."""

from collections.abc import Callable
from typing import Any

from rl_grads import register
from rl_grads.agents import networks
from rl_grads.agents.agent import Agent, clipped_loss, gradient_step, init_state
from rl_grads.gradients.estimators import Estimator, mean_gradient
from rl_grads.td import losses


def prediction(
    network: Any,
    loss: Callable[[Any], losses.Loss] = losses.td,
    estimator: Estimator | None = None,
) -> Agent:
    """An agent that predicts values and follows the environment's behaviour policy.

    Args:
        network: `init(key, obs)` and `apply(params, obs) -> [1]`.
        loss: Makes the loss of one transition for a network.
        estimator: Turns the loss into a gradient; the mean over the batch if None.

    Example:
        >>> import flax.linen as nn
        >>> agent = prediction(network=nn.Dense(1, use_bias=False))
    """
    estimator = estimator or mean_gradient()
    td_loss = clipped_loss(loss, network)
    return Agent(
        init=lambda key, obs, config: init_state(key, obs, config, network, estimator),
        update=gradient_step(td_loss, estimator),
        loss=td_loss,
        act=None,
        greedy=None,
        value=lambda params, obs: network.apply(params, obs)[0],
    )


def from_config(config: Any, num_actions: int) -> Agent:
    """The agent with the network and the loss that a config names."""
    loss = register.get("loss", config.agent.loss)
    return prediction(network=networks.make(config, 1), loss=loss)
