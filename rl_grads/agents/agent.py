"""What every agent is: a record of pure functions, and the parts they share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads.agents.schema import Target
from rl_grads.gradients import optimizers, per_example_clip, receipts
from rl_grads.gradients.clips import clipped_network
from rl_grads.gradients.estimators import About, Estimator
from rl_grads.register import STATE_VALUE, Declaration, Need
from rl_grads.td.losses import Loss
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config
from rl_grads.typing import LossFunction, Network, Params


class AgentState(NamedTuple):
    """State of one member's agent.

    Attributes:
        params: Parameters of the online network.
        target_params: Parameters of the target network; None without one.
        optimizer: State of the optimizer.
        estimator: State of the gradient estimator.
        updates: Updates so far.
        key: PRNG key of the agent's own draws; the number of updates is folded in.
        trace: What a method that learns from transitions in order carries from one
            to the next, forgotten where environments start anew; None without.
        average: A moving average of the parameters (Polyak and Juditsky 1992); None
            without one.
    """

    params: Any
    target_params: Any
    optimizer: Any
    estimator: Any
    updates: jax.Array
    key: jax.Array
    trace: Any = None
    average: Any = None


class Update(NamedTuple):
    """What an update reports: per-example signals `[B]`, and scalar metrics."""

    signals: Signals
    metrics: dict[str, jax.Array]


class Agent(NamedTuple):
    """An agent.

    Attributes:
        init: `init(key, obs, config) -> AgentState`, from one observation.
        update: `update(state, batch, weights, config) -> (AgentState, Update)`, one
            step on a batch of transitions `[B, ...]` with weights `[B]` or None.
        loss: The loss of one transition, see `rl_grads.td.losses`.
        act: `act(state, key, obs, config) -> action` for one observation; None for
            an agent that follows the environment's own behaviour policy.
        greedy: `greedy(params, obs) -> action`; None where there is no control.
        value: `value(params, obs) -> v` of one observation.
        double_sampling: Its transitions need a second draw from the same state.
        prepare: `prepare(state, batch, config) -> batch`, a batch with what an update
            adds to it before its loss sees it; None where that is nothing.
        activations: `activations(params, obs) -> {place: value}` inside its network,
            for one observation; None where that announces no places.
        policy: `policy(params, obs, config) -> probabilities` of the actions that
            `act` draws, for one observation; None where it says none.
    """

    init: Callable[..., AgentState]
    update: Callable[..., tuple[AgentState, Update]]
    loss: Callable[..., Any]
    act: Callable[..., jax.Array] | None
    greedy: Callable[..., jax.Array] | None
    value: Callable[..., jax.Array]
    double_sampling: bool = False
    prepare: Callable[..., Transition] | None = None
    activations: Callable[..., dict[str, jax.Array]] | None = None
    policy: Callable[..., jax.Array] | None = None


def init_state(
    key: jax.Array,
    obs: jax.Array,
    config: Config,
    network: Network,
    estimator: Estimator,
) -> AgentState:
    """Fresh parameters, and the state of everything that depends on them.

    Args:
        key: Split into one for the parameters and one for the agent's own draws.
        obs: One observation.
        config: The whole config; `agent.target`, `optimizer`, `gradient` and
            `evaluation.average_window` are read.
        network: `init(key, obs) -> params`.
        estimator: Gradient estimator.
    """
    key_params, key_agent = jax.random.split(key)
    params = network.init(key_params, obs)
    target = config.agent.target
    has_target = target.period is not None or target.polyak is not None
    has_average = config.evaluation.average_window is not None
    return AgentState(
        params=params,
        target_params=jax.tree.map(jnp.copy, params) if has_target else None,
        average=jax.tree.map(jnp.copy, params) if has_average else None,
        optimizer=optimizers.make(config).init(params),
        estimator=estimator.init(params),
        updates=jnp.zeros((), jnp.int32),
        key=key_agent,
    )


def clipped_loss(loss: Callable[[Network], Loss], network: Network) -> Loss:
    """The loss of a network, with the clip inside the graph that a config asks for."""

    def clipped(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[jax.Array, Signals]:
        with_clip = loss(clipped_network(network, config.gradient.clip))
        return with_clip(params, bootstrap_params, transition, config)

    return clipped


def gradient_step(
    loss: LossFunction, estimator: Estimator
) -> Callable[..., tuple[AgentState, Update]]:
    """The update that value-based agents share: estimate, optimise, move the target.

    The derivative is taken in `params` alone, so the bootstrap carries no gradient.
    Nothing is stopped here: an outer derivative sees that the bootstrap moves.
    """

    def update(
        state: AgentState,
        batch: Transition,
        weights: jax.Array | None,
        config: Config,
    ) -> tuple[AgentState, Update]:
        target = state.target_params
        bootstrap_params = state.params if target is None else target
        about = About(loss, state.params, bootstrap_params, batch, weights, config)
        key = jax.random.fold_in(state.key, state.updates)
        gradient, signals, estimator_state = estimator.update(
            state.estimator, key, about
        )
        state = state._replace(estimator=estimator_state)
        new = apply_gradient(state, gradient, config)
        found = metrics(signals, optax.tree.norm(gradient))
        clips = receipts.of_graph(about) | receipts.of_update(new.optimizer)
        clips |= per_example_clip.metrics(estimator_state)
        return new, Update(signals, found | clips)

    return update


def apply_gradient(state: AgentState, gradient: Params, config: Config) -> AgentState:
    """One step of the optimizer along a gradient; target and average follow.

    Args:
        state: Its parameters, target, average, optimizer and count of updates move.
        gradient: Of the shape of the parameters; the step is against it.
        config: The whole config; `optimizer`, `gradient`, `agent.target` and
            `evaluation.average_window` are read.
    """
    steps, optimizer = optimizers.make(config).update(
        gradient, state.optimizer, state.params
    )
    params = optax.apply_updates(state.params, steps)
    updates, average = state.updates + 1, state.average
    window = config.evaluation.average_window
    if window is not None:
        step = average_step(updates, window)
        average = optax.incremental_update(params, average, step)
    return state._replace(
        params=params,
        average=average,
        target_params=_move_target(state, params, updates, config.agent.target),
        optimizer=optimizer,
        updates=updates,
    )


_ORDER = "it learns from transitions in order"
_NO_BATCH = "its updates are not batches"
# What an agent that calls `in_order` needs, and the values that it learns.
LEARNS_IN_ORDER = Declaration(
    (
        Need("replay", None, _ORDER),
        Need("gradient.per_example.max_norm", None, _NO_BATCH),
        Need("gradient.per_example.quantile", None, _NO_BATCH),
    ),
    STATE_VALUE,
)


def in_order(batch: Transition, weights: jax.Array | None, num_envs: int) -> Transition:
    """A batch `[B, ...]` as time steps of all environments, `[B / E, E, ...]`.

    Args:
        batch: Transitions in order of time, those of one time step side by side.
        weights: None: what has a trace sees each transition once, when it is new.
        num_envs: E.

    Raises:
        ValueError: There are weights, or E does not divide B.
    """
    if weights is not None:
        raise ValueError(
            "weights: expected None, a method with a trace learns from transitions "
            f"in order; got weights of shape {jnp.shape(weights)}"
        )
    size = batch.r_t.shape[0]
    if size % num_envs:
        raise ValueError(
            f"batch: expected a multiple of num_envs={num_envs} transitions, got {size}"
        )
    return jax.tree.map(lambda x: x.reshape(-1, num_envs, *x.shape[1:]), batch)


def evaluated(state: AgentState) -> Params:
    """The parameters that are judged: their average, where one is kept."""
    return state.params if state.average is None else state.average


def average_step(updates: jax.Array, window: jax.Array | float) -> jax.Array:
    """The step of the average at an update: `1 / (1 + window (updates - 1))`.

    The polynomial-decay averaging of Shamir & Zhang (2013, section 4) with
    `eta = 1 / window - 1`: iterate i of t weighs about as `(i / t) ** eta`.
    The first step is 1, so nothing of the initial parameters is left in it. A window
    of 1 is the mean of all iterates, one of 0 the last iterate.

    Args:
        updates: How many there have been, this one among them; at least 1.
        window: Fraction of them, in [0, 1].

    Example:
        >>> [float(average_step(jnp.array(t), 0.5)) for t in (1, 3, 7)]
        [1.0, 0.5, 0.25]
    """
    return 1 / (1 + window * (updates - 1))


def _move_target(
    state: AgentState, params: Params, updates: jax.Array, target: Target
) -> Params:
    moved = state.target_params
    if target.polyak is not None:
        moved = optax.incremental_update(params, moved, target.polyak)
    if target.period is not None:
        copy = updates % target.period == 0
        moved = jax.tree.map(lambda new, old: jnp.where(copy, new, old), params, moved)
    return moved


def metrics(signals: Signals, norm: jax.Array) -> dict[str, jax.Array]:
    """What is logged of an update: means of its signals, the norm of its gradient."""
    means = {f"loss/{name}": jnp.mean(v) for name, v in signals.extra.items()}
    return {
        "loss/td_error_abs": jnp.mean(jnp.abs(signals.td_error)),
        "loss/td_error_square": jnp.mean(jnp.square(signals.td_error)),
        "gradient/norm": norm,
        **means,
    }
