"""What every estimator of a meta-gradient is given and gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rl_grads.autodiff.mixed_mode import unroll
from rl_grads.meta.inner import Problem
from rl_grads.typing import PyTree, State


class Task(NamedTuple):
    """One meta-gradient to estimate.

    Attributes:
        eta: Names to the values that are learned.
        state: Inner state to begin with.
        batches: What the updates see, `[K, ...]`.
        data: What the outer loss sees.
        key: PRNG key; None will do for all but `persistent_evolution`.
    """

    eta: dict[str, Any]
    state: Any
    batches: Any
    data: Any
    key: jax.Array | None = None


class Estimate(NamedTuple):
    """What an estimator finds.

    Attributes:
        gradient: Like eta.
        loss: The outer loss after the inner updates.
        state: The inner state after them.
        reports: What the updates reported, `[K, ...]`.
        taken: Which updates were finite and so were made, `[K]`.
        memory: What the estimator carries on.
    """

    gradient: dict[str, Any]
    loss: jax.Array
    state: Any
    reports: Any
    taken: jax.Array
    memory: Any


def _no_memory(eta: PyTree, state: State) -> PyTree:
    return ()


class Estimator(NamedTuple):
    """A meta-gradient estimator, a record of pure functions.

    Attributes:
        name: Its name in `rl_grads.meta.estimators`.
        estimate: `estimate(problem, task, memory) -> Estimate`.
        init: `init(eta, state) -> memory`.
        further: Batches that it wants beyond the K of the inner loop.
        draws: Whether it is random, so that its mean over keys is what counts.
    """

    name: str
    estimate: Callable[[Problem, Task, Any], Estimate]
    init: Callable[[Any, Any], Any] = _no_memory
    further: int = 0
    draws: bool = False


def run(
    problem: Problem,
    eta: PyTree,
    state: State,
    batches: PyTree,
    checkpoint: PyTree = None,
) -> tuple[PyTree, PyTree]:
    """The updates from a state; with their reports, and whether they were made."""

    def step(state: State, batch: PyTree) -> tuple[PyTree, PyTree]:
        return problem.step(eta, state, batch)

    return unroll(step, state, batches, checkpoint)


def outer_loss(
    problem: Problem, state: State, data: PyTree
) -> Callable[[PyTree], jax.Array]:
    """The outer loss as a function of the parameters of a state."""
    return lambda params: problem.loss(state._replace(params=params), data)


def check_count(name: str, value: PyTree, low: int = 1) -> None:
    """Refuse anything but an integer of at least `low` (ValueError)."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name}={value!r}: expected an integer of at least {low}")
