"""n-step TD: value prediction from returns of n steps, online."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import register
from rl_grads.agents import estimation, networks
from rl_grads.agents.agent import (
    LEARNS_IN_ORDER,
    Agent,
    AgentState,
    Update,
    clipped_loss,
    gradient_step,
    in_order,
    init_state,
    metrics,
)
from rl_grads.gradients.estimators import Estimator, mean_gradient
from rl_grads.register import declares
from rl_grads.td import losses, traces
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network


class Window(NamedTuple):
    """Returns of one environment that are not complete yet.

    Attributes:
        pending: Joined transitions, oldest first, `[n, ...]`.
        length: How many of them are meant.
    """

    pending: Transition
    length: jax.Array


def n_step_td(
    network: Network,
    loss: Callable[[Network], losses.Loss] = losses.td,
    estimator: Estimator | None = None,
) -> Agent:
    """An agent that predicts values from n-step returns (Sutton & Barto 2018, 7.1).

    An n-step return is a transition (`rl_grads.td.traces.join`), so any TD loss serves.
    It learns from transitions in order: a batch `[B, ...]` holds `B / E` time steps of
    the `E = training.num_envs` environments and goes on where the last one ended. A
    state is updated when n steps have followed it. At the end of an episode all that
    are left are updated one after another, oldest first: a termination completes their
    returns, a truncation lets them bootstrap from its final observation. A time step
    takes the time of n updates, most of which do nothing.

    Metrics of an update are sums over the returns it completed, divided by the number
    of transitions: over time each transition completes one.

    Args:
        network: `init(key, obs)` and `apply(params, obs) -> [1]`.
        loss: Makes the loss of one transition for a network.
        estimator: Turns the loss into a gradient; the mean over environments if None.

    Raises:
        ValueError: By `update`, for weights or a batch that is not whole time steps.

    Example:
        >>> import flax.linen as nn
        >>> agent = n_step_td(network=nn.Dense(1, use_bias=False))
    """
    estimator = estimator or mean_gradient()
    td_loss = clipped_loss(loss, network)
    update_once = gradient_step(td_loss, estimator)

    def init(key: jax.Array, obs: jax.Array, config: Config) -> AgentState:
        state = init_state(key, obs, config, network, estimator)
        empty = _empty(obs, config.agent.n_step)
        envs = jnp.arange(config.training.num_envs)
        return state._replace(trace=jax.vmap(lambda _: empty)(envs))

    def update(
        state: AgentState, batch: Transition, weights: jax.Array | None, config: Config
    ) -> tuple[AgentState, Update]:
        steps = in_order(batch, weights, config.training.num_envs)
        state, (signals, measured) = jax.lax.scan(
            lambda state, now: _step(update_once, state, now, config), state, steps
        )
        signals = jax.tree.map(lambda x: x.reshape(-1), signals)
        return state, Update(signals, jax.tree.map(lambda x: x.mean(0), measured))

    return Agent(
        init=init,
        update=update,
        loss=td_loss,
        act=None,
        greedy=None,
        value=lambda params, obs: network.apply(params, obs)[0],
    )


# --------------------------------------------------------------------- one time step

_UpdateOnce = Callable[..., tuple[AgentState, Update]]


def _step(
    update_once: _UpdateOnce, state: AgentState, now: Transition, config: Config
) -> tuple[AgentState, Update]:
    """All updates of one time step, `[E, ...]`; its metrics are their sum."""
    window = jax.vmap(_append)(state.trace, now)
    ended = now.terminated | now.truncated
    ready = jax.vmap(_ready)(window, ended)
    slots = jax.tree.map(lambda x: x.swapaxes(0, 1), (window.pending, ready))
    moved, done = jax.lax.scan(
        lambda state, slot: _complete(update_once, state, slot, config),
        state._replace(trace=None),
        slots,
    )
    oldest = jax.tree.map(lambda x: x[0], done.signals)
    report = Update(oldest, jax.tree.map(lambda x: x.sum(0), done.metrics))
    return moved._replace(trace=jax.vmap(_remove)(window, ended)), report


def _complete(
    update_once: _UpdateOnce,
    state: AgentState,
    slot: tuple[Transition, jax.Array],
    config: Config,
) -> tuple[AgentState, Update]:
    """One update from a slot `[E, ...]`, where any environment's is complete."""
    returns, ready = slot
    moved, report = update_once(state, returns, ready.astype(float), config)
    some = jnp.any(ready)
    new = jax.tree.map(lambda a, b: jnp.where(some, a, b), moved, state)
    signals = jax.tree.map(lambda x: jnp.where(ready, x, 0), report.signals)
    masked = {k: jnp.where(some, v, 0) for k, v in report.metrics.items()}
    clips = {k: v for k, v in masked.items() if k.startswith("clip/")}
    return new, Update(signals, metrics(signals, masked["gradient/norm"]) | clips)


# ------------------------------------------------------------- one environment's window


def _empty(obs: jax.Array, n: int) -> Window:
    real, boolean = jnp.zeros(n), jnp.zeros(n, bool)
    frames = jnp.zeros((n, *obs.shape), obs.dtype)
    pending = Transition(
        s_tm1=frames,
        a_tm1=jnp.zeros(n, jnp.int32),
        r_t=real,
        s_t=frames,
        terminated=boolean,
        truncated=boolean,
        discount_t=real,
        rho=real,
    )
    return Window(pending, jnp.int32(0))


def _append(window: Window, new: Transition) -> Window:
    """Join a transition to every pending one, and let it stand as the newest."""
    joined = jax.vmap(traces.join, (0, None))(window.pending, new)
    place = window.length == jnp.arange(joined.r_t.size)

    def put(old: jax.Array, longer: jax.Array, newest: jax.Array) -> jax.Array:
        here = jnp.expand_dims(place, range(1, old.ndim))
        return jnp.where(here, newest, longer).astype(old.dtype)

    pending = jax.tree.map(put, window.pending, joined, new)
    return Window(pending, window.length + 1)


def _ready(window: Window, ended: jax.Array) -> jax.Array:
    """Which slots `[n]` are complete: the oldest of a full window; at an end, all."""
    slot = jnp.arange(window.pending.r_t.size)
    oldest = (slot == 0) & (window.length == slot.size)
    return jnp.where(ended, slot < window.length, oldest)


def _remove(window: Window, ended: jax.Array) -> Window:
    """The window without what was complete."""
    full = window.length == window.pending.r_t.size
    pending = jax.tree.map(
        lambda x: jnp.where(full, jnp.roll(x, -1, 0), x), window.pending
    )
    return Window(pending, jnp.where(ended, 0, window.length - full))


@declares(LEARNS_IN_ORDER)
def from_config(config: Config, num_actions: int) -> Agent:
    """The agent with the network and the loss that a config names."""
    loss = register.get("loss", config.agent.loss)
    network = networks.make(config, 1)
    estimator = estimation.estimator(config, network)
    return n_step_td(network=network, loss=loss, estimator=estimator)
