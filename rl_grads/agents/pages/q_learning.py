"""Action-value control: Q-learning, double Q-learning, SARSA, expected SARSA.

The four differ in their loss alone (`rl_grads.td.losses`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rl_grads import register
from rl_grads.agents import estimation, networks, td_gradients
from rl_grads.agents.agent import Agent, AgentState, Update, clipped_loss
from rl_grads.gradients.estimators import Estimator
from rl_grads.register import ACTION_VALUES, Declaration, declares
from rl_grads.td import losses, policies
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network, Params


def q_learning(
    network: Network,
    loss: Callable[[Network], losses.Loss] = losses.q_learning,
    estimator: Estimator | None = None,
    td_gradient: str = "semi",
) -> Agent:
    """An agent that learns action values and acts by them.

    Every transition gets an `a_t`, drawn from the behaviour policy in `s_t`, for
    losses on-policy in it, such as SARSA.

    Args:
        network: `init(key, obs)` and `apply(params, obs) -> q [num_actions]`.
        loss: Makes the loss of one transition for a network.
        estimator: Turns the loss into a gradient; the mean over the batch if None.
        td_gradient: Where the gradient stops, or what replaces it; by name.

    Raises:
        ConfigError: A `td_gradient` that is unknown, or not one of action values.
        ValueError: An estimator beside an update direction.

    Example:
        >>> import flax.linen as nn
        >>> agent = q_learning(network=nn.Dense(2), loss=losses.double_q_learning)
    """
    wanted = td_gradients.get(td_gradient, ACTION_VALUES)
    td_loss = wanted.loss(clipped_loss(loss, network))
    learner = td_gradients.learner(wanted, network, td_loss, estimator)

    def act(
        state: AgentState, key: jax.Array, obs: jax.Array, config: Config
    ) -> jax.Array:
        q = network.apply(state.params, obs)
        return policies.sample(key, q, config.agent.behaviour_policy)

    def policy(params: Params, obs: jax.Array, config: Config) -> jax.Array:
        q = network.apply(params, obs)
        return policies.probabilities(q, config.agent.behaviour_policy)

    def draw_next(
        state: AgentState, key: jax.Array, batch: Transition, config: Config
    ) -> jax.Array:
        keys = jax.random.split(key, batch.r_t.shape[0])
        return jax.vmap(act, (None, 0, 0, None))(state, keys, batch.s_t, config)

    def prepare(state: AgentState, batch: Transition, config: Config) -> Transition:
        # The compiler drops this draw where the loss does not read it.
        key = jax.random.fold_in(state.key, ~state.updates)
        return batch._replace(a_t=draw_next(state, key, batch, config))

    def update(
        state: AgentState, batch: Transition, weights: jax.Array | None, config: Config
    ) -> tuple[AgentState, Update]:
        batch = prepare(state, batch, config)
        return learner.update(state, batch, weights, config)

    def greedy(params: Params, obs: jax.Array) -> jax.Array:
        return jnp.argmax(network.apply(params, obs)).astype(jnp.int32)

    return Agent(
        init=learner.init,
        update=update,
        loss=td_loss,
        act=act,
        greedy=greedy,
        value=lambda params, obs: jnp.max(network.apply(params, obs)),
        prepare=prepare,
        activations=networks.activations(network),
        policy=policy,
    )


@declares(Declaration(outputs=ACTION_VALUES))
def from_config(config: Config, num_actions: int) -> Agent:
    """The agent with the network, the loss and the TD gradient that a config names."""
    network = networks.make(config, num_actions)
    return q_learning(
        network=network,
        loss=register.get("loss", config.agent.loss),
        estimator=estimation.estimator(config, network),
        td_gradient=config.agent.td_gradient,
    )
