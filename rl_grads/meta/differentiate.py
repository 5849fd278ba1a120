"""Meta-gradients for library users: through K updates of any update function."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.meta import learned, truth
from rl_grads.meta.estimate import Estimator, Task, check_count
from rl_grads.meta.estimators import by_name, check_valid
from rl_grads.meta.inner import Batch, Problem, Weigh, problem
from rl_grads.meta.learned import INITIAL
from rl_grads.meta.reach import check_reach
from rl_grads.meta.schema import SAMPLING
from rl_grads.typing import Function, PyTree, Section, State


class MetaGradient(NamedTuple):
    """A meta-gradient and what came with it.

    Attributes:
        gradient: Each learned name to the derivative of the outer loss in its value.
        loss: The outer loss after the inner updates.
        state: The inner state after them.
        reports: What the updates reported, `[K, ...]`.
        diverged_at: The first update whose result was not finite, counted from 0; -1
            if none. Such updates are skipped.
        memory: What `forward` and `persistent_evolution` carry on.
    """

    gradient: dict[str, Any]
    loss: jax.Array
    state: Any
    reports: Any
    diverged_at: jax.Array
    memory: Any


class _Setting(NamedTuple):
    """What `gradient` and `truth_meter` are told once."""

    update: Callable[..., Any]
    outer_loss: Callable[[Any, Any], jax.Array]
    learn: tuple[str, ...]
    steps: int
    estimator: Estimator
    weigh: Weigh | None

    def pose(self, config: Section, state: State, task: Task) -> tuple[Problem, Task]:
        """The problem and the task, both checked."""
        names = learned.expand(config, self.learn)
        learned.check(config, names, SAMPLING if self.weigh else ())
        eta = {name: _array(x) for name, x in _values(config, state, names)}
        task = task._replace(eta=eta, state=state)
        _check_length(task.batches, self.steps, self.estimator.further)
        posed = problem(
            self.update,
            lambda state, data: self.outer_loss(state.params, data),
            lambda eta: learned.insert(config, eta),
            weigh=self.weigh,
        )
        check_reach(posed, task)
        return posed, task


def gradient(
    update: Function,
    outer_loss: Callable[[PyTree, PyTree], jax.Array],
    learn: Sequence[str],
    steps: int,
    estimator: str | Estimator = "full",
    weigh: Weigh | None = None,
) -> Callable[..., MetaGradient]:
    """The derivative of an outer loss with respect to numbers of a config.

    The derivative goes through `steps` updates of the very function that trains. It is
    exact where `estimator` is `"full"`; the others trade bias for cost.

    Args:
        update: `update(state, batch, weights, config) -> (state, report)`: that of an
            agent, or an `rl_grads.meta.Descent`.
        outer_loss: `outer_loss(params, data) -> scalar`, on the parameters after the
            updates. What it reads from a config is up to the caller, and held fixed.
        learn: Dotted paths of the config, or `"initial_parameters"`.
        steps: Number K of inner updates.
        estimator: A name, or a record of `rl_grads.meta.estimators` with options.
        weigh: `weigh(state, batch, config) -> weights`, from an `rl_grads.meta.Batch`,
            for numbers on which the weights depend; those that act by what is drawn are
            refused without. `rl_grads.meta.behaviour_matching` and
            `rl_grads.replay.soft_weights` make weights of this kind.

    Returns:
        `compute(config, state, batches, data, weights, key, memory, ratio)`, the latter
        four None by default. Batches are `[K, B, ...]`, weights and ratios `[K, B]`;
        discounts of transitions are made from the config, `discount * (1 -
        terminated)`. `key` is for random estimators, `memory` that of an earlier call;
        `ratio` says how often each example is drawn, for `weigh`.

    Raises:
        ValueError: Bad `steps`, another number of batches, an unknown estimator.
        ConfigError: `learn` names what cannot be learned, what the estimator does not
            know, or what the outer loss does not depend on.

    Example:
        >>> import rl_grads as rg                                  # doctest: +SKIP
        >>> compute = rg.meta.gradient(                            # doctest: +SKIP
        ...     agent.update, outer_loss, learn=("agent.discount",), steps=5
        ... )
        >>> jax.jit(compute)(config, state, batches, data).gradient   # doctest: +SKIP
        {'agent.discount': Array(0.335, dtype=float32)}
    """
    setting = _setting(update, outer_loss, learn, steps, estimator, weigh)

    def compute(
        config: Section,
        state: State,
        batches: PyTree,
        data: PyTree,
        weights: jax.Array | None = None,
        key: jax.Array | None = None,
        memory: State = None,
        ratio: jax.Array | None = None,
    ) -> MetaGradient:
        task = Task({}, state, Batch(batches, weights, ratio), data, key)
        posed, task = setting.pose(config, state, task)
        if memory is None:
            memory = setting.estimator.init(task.eta, state)
        found = setting.estimator.estimate(posed, task, memory)
        return MetaGradient(
            found.gradient,
            found.loss,
            found.state,
            found.reports,
            first_failure(found.taken),
            found.memory,
        )

    return compute


def truth_meter(
    update: Function,
    outer_loss: Callable[[PyTree, PyTree], jax.Array],
    learn: Sequence[str],
    steps: int,
    estimator: str | Estimator,
    draws: int = 16,
    weigh: Weigh | None = None,
) -> Callable[..., truth.Truth]:
    """Cosine and bias of an estimator against the exact derivative.

    Args:
        update: As for `gradient`, and so are the following ones.
        outer_loss: See there.
        learn: See there.
        steps: See there.
        estimator: The one to measure; it begins afresh, without memory.
        draws: Keys over which a random estimator is averaged.
        weigh: As for `gradient`.

    Returns:
        `measure(config, state, batches, data, weights, key, ratio)`, the latter three
        None by default.

    Example:
        >>> measure = rg.meta.truth_meter(                         # doctest: +SKIP
        ...     agent.update, outer_loss, ("agent.discount",), 5, "first_order"
        ... )
        >>> measure(config, state, batches, data).cosine           # doctest: +SKIP
        Array(0.98, dtype=float32)
    """
    setting = _setting(update, outer_loss, learn, steps, estimator, weigh)
    check_count("draws", draws)

    def measure(
        config: Section,
        state: State,
        batches: PyTree,
        data: PyTree,
        weights: jax.Array | None = None,
        key: jax.Array | None = None,
        ratio: jax.Array | None = None,
    ) -> truth.Truth:
        task = Task({}, state, Batch(batches, weights, ratio), data, key)
        posed, task = setting.pose(config, state, task)
        return truth.meter(setting.estimator, posed, task, draws)

    return measure


def _setting(
    update: Function,
    outer_loss: Callable[[PyTree, PyTree], jax.Array],
    learn: Sequence[str],
    steps: int,
    estimator: str | Estimator,
    weigh: Weigh | None,
) -> _Setting:
    check_count("steps", steps)
    if isinstance(learn, str):
        learn = (learn,)
    if isinstance(estimator, str):
        estimator = by_name(estimator)
    check_valid(estimator.name, learn)
    return _Setting(update, outer_loss, tuple(learn), steps, estimator, weigh)


def first_failure(taken: jax.Array) -> jax.Array:
    """The index of the first update that was not taken, -1 if all were."""
    return jnp.where(jnp.all(taken), -1, jnp.argmin(taken)).astype(jnp.int32)


def _values(
    config: Section, state: State, names: Sequence[str]
) -> list[tuple[str, PyTree]]:
    found = learned.values(config, names)
    return [(name, state.params if name == INITIAL else found[name]) for name in names]


def _array(tree: PyTree) -> PyTree:
    dtype = jnp.result_type(float)
    return jax.tree.map(lambda x: jnp.asarray(x, getattr(x, "dtype", dtype)), tree)


def _check_length(batches: PyTree, steps: int, further: int) -> None:
    sizes = {x.shape[0] for x in jax.tree.leaves(batches)}
    if sizes != {steps + further}:
        extra = f" + {further} for the target" if further else ""
        raise ValueError(
            f"batches: expected a leading axis of steps={steps}{extra}, got "
            f"{sorted(sizes)}"
        )
