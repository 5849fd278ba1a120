"""Value prediction: learns the value of the policy that the environment comes with."""

from collections.abc import Callable

import jax

from rl_grads import register
from rl_grads.agents import estimation, networks, td_gradients
from rl_grads.agents.agent import Agent, AgentState, Update, clipped_loss
from rl_grads.gradients.estimators import Estimator
from rl_grads.register import STATE_VALUE, Declaration, declares
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network


def prediction(
    network: Network,
    loss: Callable[[Network], losses.Loss] = losses.td,
    estimator: Estimator | None = None,
    td_gradient: str = "semi",
) -> Agent:
    """An agent that predicts values and follows the environment's behaviour policy.

    Its updates report `gradient/semi_full_cosine`, of the batch's semi-gradient and its
    full gradient, whichever of them it follows (`diagnostics.semi_full_cosine`).

    Args:
        network: `init(key, obs)` and `apply(params, obs) -> [1]`.
        loss: Makes the loss of one transition for a network.
        estimator: Turns the loss into a gradient; the mean over the batch if None.
        td_gradient: Where the gradient stops, or what replaces it, by name.
            `"emphatic"` wants transitions in order of time, `"residual"` transitions
            with a second draw.

    Raises:
        ConfigError: A `td_gradient` that is unknown, or not one of a state value.
        ValueError: An estimator beside an update direction.

    Example:
        >>> import flax.linen as nn
        >>> agent = prediction(network=nn.Dense(1, use_bias=False), td_gradient="tdc")
    """
    wanted = td_gradients.get(td_gradient, STATE_VALUE)
    semi = clipped_loss(loss, network)
    td_loss = wanted.loss(semi)
    learner = td_gradients.learner(wanted, network, td_loss, estimator)

    def update(
        state: AgentState, batch: Transition, weights: jax.Array | None, config: Config
    ) -> tuple[AgentState, Update]:
        new, report = learner.update(state, batch, weights, config)
        if not config.diagnostics.semi_full_cosine:
            return new, report
        cosine = td_gradients.semi_full_cosine(semi, state, batch, weights, config)
        metrics = report.metrics | {"gradient/semi_full_cosine": cosine}
        return new, report._replace(metrics=metrics)

    return Agent(
        init=learner.init,
        update=update,
        loss=td_loss,
        act=None,
        greedy=None,
        value=lambda params, obs: network.apply(params, obs)[0],
        double_sampling=wanted.declares.redraws,
        activations=networks.activations(network),
    )


@declares(Declaration(outputs=STATE_VALUE))
def from_config(config: Config, num_actions: int) -> Agent:
    """The agent with the network, the loss and the TD gradient that a config names."""
    network = networks.make(config, 1)
    return prediction(
        network=network,
        loss=register.get("loss", config.agent.loss),
        estimator=estimation.estimator(config, network),
        td_gradient=config.agent.td_gradient,
    )
