"""`agent.td_gradient`: where the gradient of a TD error stops, or what replaces it.

A value is a change of the loss (`rl_grads.td.losses`), an update direction with
secondary weights (`rl_grads.td.directions`), or a weight per example.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads import register
from rl_grads.agents.agent import (
    AgentState,
    Update,
    gradient_step,
    in_order,
    init_state,
)
from rl_grads.config import schema_name
from rl_grads.gradients.estimators import About, Estimator, weighted_losses
from rl_grads.gradients.per_example_clip import default
from rl_grads.register import ACTION_VALUES, STATE_VALUE, Declaration, Need
from rl_grads.td import directions, losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network, Params, PyTree


class TDGradient(NamedTuple):
    """What stands behind a value of `agent.td_gradient`; a function is its `loss`.

    Attributes:
        loss: Changes the loss, so that its derivative is the gradient wanted.
        rule: An update direction that takes the place of the gradient.
        regularised: The rule draws its secondary weights to zero.
        emphatic: Examples are weighed by the follow-on trace.
        declares: What it needs of the rest of a config.
    """

    loss: Callable[[losses.Loss], losses.Loss] = losses.semi
    rule: directions.Rule | None = None
    regularised: bool = False
    emphatic: bool = False
    declares: Declaration = Declaration()


# Their equations have no place for a target network: the value that bootstraps is the
# one that learns. (QRC has one in its authors' code.)
_NO_TARGET = (Need("agent.target.period"), Need("agent.target.polyak"))
# Directions need forward mode, which does not pass a clip inside the graph, and have no
# gradients of single examples to clip.
_NO_CLIP = (
    Need("gradient.clip.max_abs"),
    Need("gradient.clip.max_norm"),
    Need("gradient.per_example.max_norm"),
    Need("gradient.per_example.quantile"),
    Need("gradient.estimator"),
)
_DIRECTION = Declaration(_NO_TARGET + _NO_CLIP, STATE_VALUE, per_example=False)

SEMI = TDGradient()
FULL = TDGradient(losses.full, declares=Declaration(_NO_TARGET))
INTERPOLATE = TDGradient(losses.interpolate, declares=Declaration(_NO_TARGET))
RESIDUAL = TDGradient(
    losses.residual,
    declares=Declaration(
        (*_NO_TARGET, Need("replay", None, "the second draw is not stored")),
        STATE_VALUE,
        redraws=True,
    ),
)
GTD2 = TDGradient(rule=directions.gtd2, declares=_DIRECTION)
TDC = TDGradient(rule=directions.tdc, declares=_DIRECTION)
TDRC = TDGradient(rule=directions.tdrc, regularised=True, declares=_DIRECTION)
QRC = TDGradient(
    rule=directions.tdrc,
    regularised=True,
    declares=Declaration(_NO_CLIP, ACTION_VALUES, per_example=False),
)
EMPHATIC = TDGradient(
    emphatic=True,
    declares=Declaration(
        (Need("replay", None, "its trace follows the order of time"),), STATE_VALUE
    ),
)


def get(name: str, outputs: str) -> TDGradient:
    """The TD gradient of that name.

    Args:
        name: A value of `agent.td_gradient`.
        outputs: What the agent's network gives.

    Raises:
        ConfigError: There is none, or it reads other outputs; the message names the
            nearest.

    Example:
        >>> get("residual", STATE_VALUE).declares.redraws
        True
    """
    found = register.get("td_gradient", name)
    register.check_outputs("td_gradient", "td_gradient", name, outputs)
    if isinstance(found, TDGradient):
        return found
    return TDGradient(found, declares=register.declared(found))


class Learner(NamedTuple):
    """How a value-based agent begins and learns.

    Attributes:
        init: `init(key, obs, config) -> AgentState`.
        update: `update(state, batch, weights, config) -> (AgentState, Update)`.
    """

    init: Callable[..., AgentState]
    update: Callable[..., tuple[AgentState, Update]]


def learner(
    td_gradient: TDGradient,
    network: Network,
    loss: losses.Loss,
    estimator: Estimator | None = None,
) -> Learner:
    """The parts of an agent that depend on its TD gradient.

    Args:
        td_gradient: See `get`.
        network: `init(key, obs) -> params`.
        loss: The loss of one transition, changed by `td_gradient.loss` already.
        estimator: Turns the loss into a gradient; the mean over the batch if None.

    Raises:
        ValueError: An estimator beside an update direction, which is one itself.
    """
    if td_gradient.rule is not None and estimator is not None:
        raise ValueError("estimator: expected None beside an update direction")

    def make_estimator(config: Config) -> Estimator:
        if td_gradient.rule is None:
            return estimator or default(config)
        return gradient_td(td_gradient.rule, config, td_gradient.regularised)

    def init(key: jax.Array, obs: jax.Array, config: Config) -> AgentState:
        state = init_state(key, obs, config, network, make_estimator(config))
        if not td_gradient.emphatic:
            return state
        return state._replace(trace=jnp.zeros(config.training.num_envs))

    def update(
        state: AgentState, batch: Transition, weights: jax.Array | None, config: Config
    ) -> tuple[AgentState, Update]:
        if td_gradient.emphatic:
            state, weights = _emphasise(state, batch, weights)
        return gradient_step(loss, make_estimator(config))(
            state, batch, weights, config
        )

    return Learner(init, update)


def _emphasise(
    state: AgentState, batch: Transition, weights: jax.Array | None
) -> tuple[AgentState, jax.Array]:
    """The emphasis of each transition, `[B]`; environments have a trace each."""
    steps = in_order(batch, weights, state.trace.shape[0])

    def step(trace: jax.Array, now: Transition) -> tuple[jax.Array, jax.Array]:
        ended = now.terminated | now.truncated
        found = directions.follow_on(trace, now.rho, now.discount_t, ended)
        return found.trace, found.emphasis

    trace, emphasis = jax.lax.scan(step, state.trace, steps)
    return state._replace(trace=trace), emphasis.ravel()


# ------------------------------------------------------------------------ gradient TD


class Secondary(NamedTuple):
    """State of an update direction: secondary weights, and their optimizer's state."""

    weights: Any
    optimizer: Any


def gradient_td(
    rule: directions.Rule, config: Config, regularised: bool = False
) -> Estimator:
    """A gradient TD method as an estimator: what it returns is to be descended.

    Everything comes from the loss's own `td_error`, so any TD loss and any network
    will do: the secondary weights have the shape of the parameters, and products with
    gradients are forward and reverse mode, never matrices. Nothing is stopped.

    Args:
        rule: Of `rl_grads.td.directions`.
        config: Its `optimizer` also moves the secondary weights, without the clip of
            the update. Numbers are taken from the config that `update` gets.
        regularised: Draw the secondary weights to zero, as strongly as
            `agent.secondary.regulariser` says.

    Example:
        >>> from rl_grads.agents.schema import Prediction
        >>> from rl_grads.training.schema import Config
        >>> estimator = gradient_td(directions.tdc, Config(agent=Prediction()))
        >>> estimator.init({"w": jnp.ones(2)}).weights["w"].tolist()
        [0.0, 0.0]
    """

    def init(params: Params) -> Secondary:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Secondary(zeros, _optimizer(config).init(zeros))

    def update(
        state: Secondary, key: jax.Array, about: About
    ) -> tuple[PyTree, PyTree, Secondary]:
        config, rho = about.config, about.batch.rho

        def signals(params: Params, bootstrap_params: Params) -> PyTree:
            of_batch = jax.vmap(about.loss, in_axes=(None, None, 0, None))
            return of_batch(params, bootstrap_params, about.batch, config)[1]

        at = (about.params, about.bootstrap_params)
        errors = _linearised(signals, *at, state.weights)
        share = (1.0 if about.weights is None else about.weights) / len(rho)
        direction = _direction(errors, rule, rho, share)
        error = directions.secondary_error(errors.td_error, errors.predicted, rho)
        slope = errors.pull(share * error)[0]
        if regularised:
            strength = config.agent.secondary.regulariser
            slope = optax.tree.add_scale(slope, strength, state.weights)
        return direction, errors.signals, _descend(state, slope, config)

    return Estimator(init, update)


class _Errors(NamedTuple):
    """TD errors `[B]`, their predictions, and how to pull cotangents back.

    `pull` gives the pair of paths; `pull_predicted` a tuple with the parameters' one.
    """

    td_error: jax.Array
    predicted: jax.Array
    signals: Any
    pull: Callable[[jax.Array], tuple[Any, Any]]
    pull_predicted: Callable[[jax.Array], tuple[Any, ...]]


def _linearised(
    signals: Callable[[PyTree, PyTree], PyTree],
    params: Params,
    bootstrap_params: Params,
    weights: PyTree,
) -> _Errors:
    """TD errors of a batch, predicted from the gradient of the first value."""

    def errors(params: Params, bootstrap_params: Params) -> tuple[jax.Array, PyTree]:
        found = signals(params, bootstrap_params)
        return found.td_error, found

    def predicted(params: Params) -> jax.Array:
        of_value = functools.partial(errors, bootstrap_params=bootstrap_params)
        # The error falls where the value rises.
        return -jax.jvp(of_value, (params,), (weights,), has_aux=True)[1]

    td_error, pull, found = jax.vjp(errors, params, bootstrap_params, has_aux=True)
    prediction, pull_predicted = jax.vjp(predicted, params)
    return _Errors(td_error, prediction, found, pull, pull_predicted)


def _direction(
    errors: _Errors, rule: directions.Rule, rho: jax.Array, share: jax.Array | float
) -> PyTree:
    """The mean over the batch of what a rule pulls back."""
    pulled = rule(errors.td_error, errors.predicted, rho)
    value = errors.pull(share * pulled.value)[0]
    bootstrap = errors.pull(share * pulled.bootstrap)[1]
    direction = optax.tree.add(value, bootstrap)
    if pulled.curvature is None:
        return direction
    curvature = errors.pull_predicted(share * pulled.curvature)[0]
    return optax.tree.add(direction, curvature)


def _optimizer(config: Config) -> optax.GradientTransformation:
    optimizer = register.get("optimizer", schema_name(config.optimizer))(
        config.optimizer
    )
    # Steps are linear in the step size, whatever the optimizer.
    return optax.chain(
        optimizer, optax.scale(config.agent.secondary.learning_rate_ratio)
    )


def _descend(state: Secondary, slope: PyTree, config: Config) -> Secondary:
    """One step of the secondary weights."""
    steps, optimizer = _optimizer(config).update(slope, state.optimizer, state.weights)
    return Secondary(optax.apply_updates(state.weights, steps), optimizer)


# ---------------------------------------------------------------------------- metrics


def semi_full_cosine(
    loss: losses.Loss,
    state: AgentState,
    batch: Transition,
    weights: jax.Array | None,
    config: Config,
) -> jax.Array:
    """Cosine between the semi-gradient of a batch and its full gradient.

    0 where either is zero. The cost beside an update is one backward pass through the
    bootstrap; the compiler shares the rest with a semi-gradient update.

    Args:
        loss: The loss of one transition, as it stands (`losses.semi`).
        state: The agent's parameters, and target parameters where there are any.
        batch: Transitions `[B, ...]`.
        weights: `[B]`, or None.
        config: The whole config.
    """

    def total(params: Params, bootstrap_params: Params) -> jax.Array:
        about = About(loss, params, bootstrap_params, batch, weights, config)
        return jnp.sum(weighted_losses(about)[0])

    target = state.params if state.target_params is None else state.target_params
    semi, rest = jax.grad(total, (0, 1))(state.params, target)
    full = optax.tree.add(semi, rest)
    product = optax.tree.norm(semi) * optax.tree.norm(full)
    cosine = optax.tree.vdot(semi, full) / jnp.where(product > 0, product, 1.0)
    return jnp.where(product > 0, cosine, 0.0)
