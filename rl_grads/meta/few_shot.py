"""Learning where to begin: initial parameters for a distribution of tasks.

A task is met with a few inner updates; what counts is the loss after them (Finn et al.
2017). Any estimator that knows `initial_parameters` learns them, and `joint` is what to
compare with: the parameters that are best without any inner update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads.meta.estimate import Estimate, Estimator, Task, outer_loss
from rl_grads.meta.inner import Problem, with_params
from rl_grads.meta.learned import INITIAL
from rl_grads.typing import Params, PyTree, State

# `sample(key) -> (batches [K, ...], data)`: what the updates and the outer loss see.
Sample = Callable[[jax.Array], tuple[Any, Any]]


class FewShot(NamedTuple):
    """A distribution of tasks, and the learner that meets them.

    Attributes:
        sample: Draws a task.
        problem: Inner updates and the outer loss.
        state: Inner state; its parameters are exchanged for those that are learned.
    """

    sample: Sample
    problem: Problem
    state: Any


class Budget(NamedTuple):
    """How long an initialisation is learned.

    Attributes:
        updates: Outer updates.
        tasks: Fresh tasks per outer update.
        learning_rate: Step of Adam, or its schedule.
        max_norm: To which the outer gradient is clipped; None: it is not.
    """

    updates: int
    tasks: int = 25
    learning_rate: optax.ScalarOrSchedule = 1e-3
    max_norm: float | None = None


def repeated(batch: PyTree, updates: int) -> PyTree:
    """One batch for all inner updates, `[K, ...]`.

    Example:
        >>> repeated(jnp.array([1.0, 2.0]), 3).shape
        (3, 2)
    """
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (updates, *x.shape)), batch)


def joint() -> Estimator:
    """The gradient of the outer loss at the start: no inner update is made.

    What it learns is best on average over tasks, for one that does not adapt.
    """

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        begin = problem.start(task.eta, task.state)
        at = outer_loss(problem, begin, task.data)
        loss, slope = jax.value_and_grad(at)(begin.params)
        none = jnp.zeros(0)
        return Estimate({INITIAL: slope}, loss, begin, none, none, memory)

    return Estimator("joint", estimate)


def learn(
    setting: FewShot,
    estimator: Estimator,
    params: Params,
    budget: Budget,
    key: jax.Array,
) -> tuple[PyTree, jax.Array]:
    """Learn initial parameters by Adam on fresh tasks.

    Args:
        setting: Tasks and learner.
        estimator: One without memory that knows `initial_parameters`.
        params: To begin with.
        budget: How long.
        key: PRNG key.

    Returns:
        The parameters, and the mean outer loss of every update, `[updates]`.

    Example:
        >>> params, losses = learn(                                # doctest: +SKIP
        ...     setting, estimators.full(), params, Budget(1000), jax.random.key(0)
        ... )
    """
    keys = jax.random.split(key, budget.updates)
    found, losses = advance(setting, estimator, begin(params, budget), budget, keys)
    return found.params, losses


class Progress(NamedTuple):
    """Where learning stands: parameters, and the state of their optimizer."""

    params: Any
    optimizer: Any


def begin(params: Params, budget: Budget) -> Progress:
    """Where learning begins."""
    return Progress(params, _optimizer(budget).init(params))


def advance(
    setting: FewShot,
    estimator: Estimator,
    progress: Progress,
    budget: Budget,
    keys: jax.Array,
) -> tuple[Progress, jax.Array]:
    """A stretch of `learn`, one update for each key `[n]`, and their losses `[n]`.

    Args:
        setting: As for `learn`, and so is the estimator.
        estimator: See there.
        progress: What `begin` or an earlier stretch gave.
        budget: Of the whole.
        keys: PRNG keys.
    """

    def update(progress: Progress, key: jax.Array) -> tuple[Progress, jax.Array]:
        params, state = progress
        gradient, loss = slope(setting, estimator, params, budget.tasks, key)
        steps, state = _optimizer(budget).update(gradient, state, params)
        return Progress(optax.apply_updates(params, steps), state), loss

    return jax.lax.scan(update, progress, keys)


def _optimizer(budget: Budget) -> optax.GradientTransformation:
    adam = optax.adam(budget.learning_rate)
    if budget.max_norm is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(budget.max_norm), adam)


def slope(
    setting: FewShot, estimator: Estimator, params: Params, tasks: int, key: jax.Array
) -> tuple[PyTree, jax.Array]:
    """Mean gradient and outer loss over fresh tasks.

    Args:
        setting: Tasks and learner.
        estimator: As for `learn`.
        params: Initial parameters.
        tasks: How many.
        key: PRNG key.
    """

    def estimate(key: jax.Array) -> tuple[PyTree, jax.Array]:
        batches, data = setting.sample(key)
        task = Task({INITIAL: params}, setting.state, batches, data)
        found = estimator.estimate(setting.problem, task, ())
        return found.gradient[INITIAL], found.loss

    found = jax.vmap(estimate)(jax.random.split(key, tasks))
    return jax.tree.map(lambda x: jnp.mean(x, 0), found)


def evaluate(setting: FewShot, params: Params, tasks: int, key: jax.Array) -> jax.Array:
    """The outer loss on fresh tasks after 0, 1, .. K inner updates, `[tasks, K + 1]`.

    Args:
        setting: Its sampler says what the K updates see.
        params: Initial parameters.
        tasks: How many.
        key: Equal keys give equal tasks.
    """
    problem = setting.problem

    def adapt(key: jax.Array) -> jax.Array:
        batches, data = setting.sample(key)
        begin = with_params(setting.state, params)

        def step(state: State, batch: PyTree) -> tuple[PyTree, jax.Array]:
            state, _ = problem.step({}, state, batch)
            return state, problem.loss(state, data)

        _, after = jax.lax.scan(step, begin, batches)
        return jnp.concatenate([problem.loss(begin, data)[None], after])

    return jax.vmap(adapt)(jax.random.split(key, tasks))
