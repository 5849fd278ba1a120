"""Estimators that differentiate the unrolled inner loop, or a part of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rl_grads.meta.estimate import (
    Estimate,
    Estimator,
    Task,
    check_count,
    outer_loss,
    run,
)
from rl_grads.meta.inner import Problem
from rl_grads.meta.learned import INITIAL
from rl_grads.typing import PyTree, State


def full(checkpoint: str | int | None = "step") -> Estimator:
    """The exact derivative through all K updates (Finn et al. 2017 for initial ones).

    Args:
        checkpoint: What the backward pass keeps, see `unroll` in
            `rl_grads.autodiff.mixed_mode`. Beside a mixed-mode gradient the compiler
            finds that most of what "step" computes again is there already.
    """

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        def outer(eta: PyTree) -> tuple[jax.Array, PyTree]:
            begin = problem.start(eta, task.state)
            end, out = run(problem, eta, begin, task.batches, checkpoint)
            return problem.loss(end, task.data), (end, out)

        return _differentiated(outer, task.eta, memory)

    return Estimator("full", estimate)


def _differentiated(
    outer: Callable[[PyTree], PyTree], eta: PyTree, memory: State
) -> Estimate:
    """The derivative of `outer(eta) -> (loss, (state, (reports, taken)))`."""
    found, gradient = jax.value_and_grad(outer, has_aux=True)(eta)
    loss, (state, (reports, taken)) = found
    return Estimate(gradient, loss, state, reports, taken, memory)


def truncated(window: int = 1, checkpoint: str | int | None = "step") -> Estimator:
    """The derivative through the last `window` updates; the state before is given.

    Args:
        window: At least 1; as many as there are updates gives `full`.
        checkpoint: See `full`.
    """
    check_count("window", window)

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        count = jax.tree.leaves(task.batches)[0].shape[0]
        early, late = _cut(task.batches, max(count - window, 0))
        middle, before = run(problem, task.eta, task.state, early)

        def outer(eta: PyTree) -> tuple[jax.Array, PyTree]:
            end, after = run(problem, eta, middle, late, checkpoint)
            return problem.loss(end, task.data), (end, _joined(before, after))

        return _differentiated(outer, task.eta, memory)

    return Estimator("truncated", estimate)


def _cut(tree: PyTree, at: int) -> tuple[PyTree, PyTree]:
    head = jax.tree.map(lambda x: x[:at], tree)
    return head, jax.tree.map(lambda x: x[at:], tree)


def _joined(first: PyTree, second: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def first_order() -> Estimator:
    """As if an update's derivative in its state were the identity (FOMAML).

    What a number does directly to each update stays; its way through curvature and
    optimizer state is dropped. For initial parameters it is the outer gradient at the
    end (Finn et al. 2017, section 5.2; Nichol et al. 2018).
    """

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        def step(eta: PyTree, state: State, batch: PyTree) -> tuple[PyTree, PyTree]:
            frozen = jax.lax.stop_gradient(state)
            new, out = problem.step(eta, frozen, batch)
            # Adds zero, and the derivative of the identity.
            params = jax.tree.map(
                lambda after, old, value: after + (old - value),
                new.params,
                state.params,
                frozen.params,
            )
            return new._replace(params=params), out

        return full().estimate(problem._replace(step=step), task, memory)

    return Estimator("first_order", estimate)


def reptile() -> Estimator:
    """The way from the end back to the start (Nichol et al. 2018).

    Divided by the inner step size it is the sum of the inner gradients. It looks at no
    outer loss; that is reported only.
    """

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        begin = problem.start(task.eta, task.state)
        end, (reports, taken) = run(problem, task.eta, begin, task.batches)
        gradient = {INITIAL: optax.tree.sub(task.eta[INITIAL], end.params)}
        loss = problem.loss(end, task.data)
        return Estimate(gradient, loss, end, reports, taken, memory)

    return Estimator("reptile", estimate)


def bootstrapped(target_steps: int = 0, target_rate: PyTree = 0.1) -> Estimator:
    """Matching a target that the learner itself reaches (Flennerhag et al. 2022).

    From the end of the inner loop, `target_steps` more updates and one step of
    `target_rate` against the outer gradient lead to a target, held constant. What is
    differentiated is half the squared distance of the parameters to it. With no further
    updates this is `target_rate` times `full`.

    Args:
        target_steps: Further updates, on further batches.
        target_rate: Step of the last move; may be traced.
    """
    check_count("target_steps", target_steps, low=0)

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        count = jax.tree.leaves(task.batches)[0].shape[0] - target_steps
        inner, further = _cut(task.batches, count)

        def target(end: PyTree) -> PyTree:
            later, _ = run(problem, task.eta, jax.lax.stop_gradient(end), further)
            slope = jax.grad(outer_loss(problem, later, task.data))(later.params)
            moved = optax.tree.add_scale(later.params, -target_rate, slope)
            return jax.lax.stop_gradient(moved)

        def outer(eta: PyTree) -> tuple[jax.Array, PyTree]:
            end, out = run(problem, eta, problem.start(eta, task.state), inner)
            away = optax.tree.sub(target(end), end.params)
            return 0.5 * optax.tree.norm(away, squared=True), (end, out)

        found = _differentiated(outer, task.eta, memory)
        return found._replace(loss=problem.loss(found.state, task.data))

    return Estimator("bootstrapped", estimate, further=target_steps)
