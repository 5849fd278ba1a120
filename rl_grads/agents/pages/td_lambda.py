"""TD(lambda): value prediction with eligibility traces, online."""

import jax
import jax.numpy as jnp
import optax

from rl_grads.agents import networks
from rl_grads.agents.agent import (
    LEARNS_IN_ORDER,
    Agent,
    AgentState,
    Update,
    apply_gradient,
    in_order,
    init_state,
    metrics,
)
from rl_grads.gradients import receipts
from rl_grads.gradients.estimators import mean_gradient
from rl_grads.register import Need, declares
from rl_grads.td import losses, traces
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network, Params


def td_lambda(network: Network) -> Agent:
    """An agent that predicts values by TD(lambda), see `rl_grads.td.traces`.

    It learns from transitions in order: a batch `[B, ...]` holds `B / E` time steps of
    the `E = training.num_envs` environments and goes on where the last one ended. Each
    environment has its own trace; each time step is one step of the optimizer along
    the mean of their directions. True online TD(lambda) is exact for one environment,
    a linear network and plain SGD.

    Args:
        network: `init(key, obs)` and `apply(params, obs) -> [1]`.

    Raises:
        ValueError: By `update`, for weights or a batch that is not whole time steps.

    Example:
        >>> import flax.linen as nn
        >>> agent = td_lambda(network=nn.Dense(1, use_bias=False))
    """

    def value(params: Params, obs: jax.Array) -> jax.Array:
        return network.apply(params, obs)[0]

    def init(key: jax.Array, obs: jax.Array, config: Config) -> AgentState:
        state = init_state(key, obs, config, network, mean_gradient())
        envs = jnp.arange(config.training.num_envs)
        return state._replace(
            trace=jax.vmap(lambda _: traces.start(state.params))(envs)
        )

    def update(
        state: AgentState, batch: Transition, weights: jax.Array | None, config: Config
    ) -> tuple[AgentState, Update]:
        def step(state: AgentState, now: Transition) -> tuple[AgentState, Update]:
            found = _directions(value, state, now, config)
            gradient = jax.tree.map(lambda d: jnp.mean(d, 0), found.direction)
            new = apply_gradient(state._replace(trace=found.trace), gradient, config)
            signals = Signals(found.td_error)
            measured = metrics(signals, optax.tree.norm(gradient))
            clip = receipts.of_update(new.optimizer)
            return new, Update(signals, measured | clip)

        steps = in_order(batch, weights, config.training.num_envs)
        state, report = jax.lax.scan(step, state, steps)
        means = jax.tree.map(lambda x: jnp.mean(x, 0), report.metrics)
        return state, Update(Signals(report.signals.td_error.ravel()), means)

    return Agent(
        init=init,
        update=update,
        loss=losses.td(network),
        act=None,
        greedy=None,
        value=value,
    )


def _directions(
    value: traces.Value, state: AgentState, now: Transition, config: Config
) -> traces.Direction:
    """The directions of all environments at one time step, `[E, ...]`."""
    target, own = state.target_params, config.agent
    bootstrap_params = state.params if target is None else target
    settings = traces.Settings(
        own.trace, own.trace_decay, config.optimizer.learning_rate
    )

    def direction(trace: traces.Trace, transition: Transition) -> traces.Direction:
        return traces.td_lambda(
            value, trace, state.params, bootstrap_params, transition, settings
        )

    return jax.vmap(direction)(state.trace, now)


_NO_LOSS = "it has no loss to clip inside"
_NEEDS = (
    Need("gradient.clip.max_abs", None, _NO_LOSS),
    Need("gradient.clip.max_norm", None, _NO_LOSS),
    Need("gradient.estimator", None, "it has no loss to differentiate"),
)


@declares(LEARNS_IN_ORDER._replace(needs=LEARNS_IN_ORDER.needs + _NEEDS))
def from_config(config: Config, num_actions: int) -> Agent:
    """The agent with the network that a config names."""
    return td_lambda(network=networks.make(config, 1))
