"""Inner loops: K updates of the very function that ordinary training uses."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from rl_grads.autodiff.mixed_mode import mixed_mode_grad
from rl_grads.autodiff.steps import skip_nonfinite
from rl_grads.meta.learned import INITIAL
from rl_grads.typing import Function, Params, PyTree, Section, State, Transitions


class Batch(NamedTuple):
    """What one update sees.

    Attributes:
        transitions: `[B, ...]`.
        weights: `[B]`, or None.
        ratio: How often each is drawn, in units of a uniform draw, `[B]`; None where
            the draw is uniform. Only a `weigh` reads it, see `problem`.
    """

    transitions: Any
    weights: jax.Array | None = None
    ratio: jax.Array | None = None


# `weigh(state, batch, config) -> weights`, of values that the batch has already.
Weigh = Callable[[Any, Batch, Any], jax.Array | None]


class Problem(NamedTuple):
    """A meta-learning problem; `eta`, a dict of names to values, is what is learned.

    Attributes:
        start: `start(eta, state) -> state` before the first update.
        step: `step(eta, state, batch) -> (state, (report, taken))`, one update; one
            whose result is not finite is not taken.
        loss: `loss(state, data) -> scalar`, the outer loss.
        objective: `objective(eta, params, state, batch) -> scalar` whose minimum the
            updates approach; None where they follow no gradient, as TD updates do.
    """

    start: Callable[..., Any]
    step: Callable[..., Any]
    loss: Callable[..., jax.Array]
    objective: Callable[..., jax.Array] | None = None


def problem(
    update: Function,
    outer_loss: Callable[[PyTree, PyTree], jax.Array],
    configure: Callable[[Mapping[str, PyTree]], PyTree],
    prepare: Callable[[PyTree, PyTree], PyTree] | None = None,
    weigh: Weigh | None = None,
) -> Problem:
    """The problem of an update function.

    Args:
        update: `update(state, batch, weights, config) -> (state, report)`, an agent's
            or a `Descent`; the state has `params`.
        outer_loss: `outer_loss(state, data) -> scalar`.
        configure: The config with learned numbers in it.
        prepare: `prepare(transitions, config)` makes what the update sees from what a
            batch holds; by default the discounts, see `discounted`.
        weigh: `weigh(state, batch, config) -> weights` where weights depend on what is
            learned; by default they are those of the batch.
    """
    prepare = prepare or discounted
    weigh = weigh or (lambda state, batch, config: batch.weights)

    def attempt(state: State, eta: PyTree, batch: Batch) -> PyTree:
        config = configure(eta)
        seen = prepare(batch.transitions, config)
        weights = weigh(state, batch._replace(transitions=seen), config)
        new, report = update(state, seen, weights, config)
        # What is only reported must not be kept for a backward pass.
        return new, jax.lax.stop_gradient(report)

    guarded = skip_nonfinite(attempt, watch=lambda state: state.params)
    return Problem(
        start=_start,
        step=lambda eta, state, batch: guarded(state, eta, batch),
        loss=outer_loss,
        objective=_objective(update, configure),
    )


def _start(eta: Mapping[str, PyTree], state: State) -> PyTree:
    return with_params(state, eta[INITIAL]) if INITIAL in eta else state


def with_params(state: State, params: Params) -> PyTree:
    """The state of a learner that begins at these parameters, its target as well."""
    copies = [
        name
        for name in ("target_params", "anchor")
        if getattr(state, name, None) is not None
    ]
    return state._replace(params=params, **dict.fromkeys(copies, params))


def discounted(transitions: Transitions, config: Section) -> Transitions:
    """Transitions with `discount_t = discount * (1 - terminated)` of this config.

    What is no transition stays as it is.
    """
    if not hasattr(transitions, "discount_t"):
        return transitions
    discount_t = config.agent.discount * (1 - transitions.terminated)
    changes = {"discount_t": discount_t}
    if getattr(transitions, "discount_t_alt", None) is not None:
        ended = transitions.discount_t_alt == 0
        changes["discount_t_alt"] = config.agent.discount * (1 - ended)
    return transitions._replace(**changes)


# ------------------------------------------------------------------- true inner losses


class DescentState(NamedTuple):
    """State of a `Descent`: parameters, where they began, and the optimizer's state."""

    params: Any
    anchor: Any
    optimizer: Any


class Descent(NamedTuple):
    """Updates that descend a true inner loss, as in supervised meta-learning.

    With `proximal` the loss is `loss + proximal / 2 |params - start|^2` (Rajeswaran et
    al. 2019), whose minimum has an implicit derivative.

    Attributes:
        loss: `loss(params, batch, config) -> scalar`.
        optimizer: `optimizer(config)` makes an optax transformation.
        proximal: Strength of the pull towards the start; None: no pull.

    Example:
        >>> import jax.numpy as jnp
        >>> from rl_grads.training.schema import Config
        >>> loss = lambda params, batch, config: 0.5 * jnp.sum((params - batch) ** 2)
        >>> sgd = lambda config: optax.sgd(config.optimizer.learning_rate)
        >>> descent, config = Descent(loss, sgd), Config()
        >>> state = descent.init(jnp.zeros(1), config)
        >>> config.optimizer.learning_rate = 0.25
        >>> descent(state, jnp.ones(1), None, config)[0].params.tolist()
        [0.25]
    """

    loss: Callable[[Any, Any, Any], jax.Array]
    optimizer: Callable[[Any], optax.GradientTransformation]
    proximal: Any = None

    def init(self, params: Params, config: Section) -> DescentState:
        """The state before the first update."""
        return DescentState(params, params, self.optimizer(config).init(params))

    def objective(
        self, params: Params, anchor: Params, batch: PyTree, config: Section
    ) -> jax.Array:
        """What an update descends."""
        loss = self.loss(params, batch, config)
        if self.proximal is None:
            return loss
        away = optax.tree.norm(optax.tree.sub(params, anchor), squared=True)
        return loss + 0.5 * self.proximal * away

    def _twice(self, *args: PyTree) -> tuple[jax.Array, jax.Array]:
        loss = self.objective(*args)
        return loss, loss

    def __call__(
        self, state: DescentState, batch: PyTree, weights: PyTree, config: Section
    ) -> tuple[DescentState, jax.Array]:
        """One update.

        Raises:
            ValueError: There are weights; they belong into the batch.
        """
        if weights is not None:
            raise ValueError("weights: expected None; a Descent's stand in its batch")
        gradient, loss = mixed_mode_grad(self._twice, has_aux=True)(
            state.params, state.anchor, batch, config
        )
        steps, optimizer = self.optimizer(config).update(
            gradient, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, steps)
        return state._replace(params=params, optimizer=optimizer), loss


def _objective(
    update: PyTree, configure: Callable[[Mapping[str, PyTree]], PyTree]
) -> Callable[..., jax.Array] | None:
    """The proximal loss that updates descend; None where there is none."""
    if not isinstance(update, Descent) or update.proximal is None:
        return None

    def objective(eta: PyTree, params: Params, state: State, batch: Batch) -> jax.Array:
        anchor = eta.get(INITIAL, state.anchor)
        return update.objective(params, anchor, batch.transitions, configure(eta))

    return objective
