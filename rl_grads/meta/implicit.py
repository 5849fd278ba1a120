"""The derivative of a solution, whichever way the inner loop has found it."""

import jax
import jax.numpy as jnp

from rl_grads.meta.estimate import (
    Estimate,
    Estimator,
    Task,
    check_count,
    outer_loss,
    run,
)
from rl_grads.meta.inner import Problem
from rl_grads.typing import Params, PyTree, State


def implicit(solver_steps: int = 100) -> Estimator:
    """The implicit derivative of a proximal inner problem (Rajeswaran et al. 2019).

    At a minimum of the inner objective f, its gradient stays zero as eta changes:
    `d params / d eta = -H^-1 d grad f / d eta` with H the Hessian of f, which conjugate
    gradients invert. It is right only where the inner loop has nearly solved the
    problem and H is symmetric, which excludes semi-gradients. The objective is that of
    the last batch.

    Args:
        solver_steps: Most steps of conjugate gradients.
    """
    check_count("solver_steps", solver_steps)

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        if problem.objective is None:
            raise ValueError(
                "estimator='implicit': expected a Descent with proximal=..., whose "
                "Jacobian is symmetric; a TD update follows a semi-gradient, and its "
                "Jacobian is not"
            )
        begin = problem.start(task.eta, task.state)
        end, (reports, taken) = run(problem, task.eta, begin, task.batches)
        loss, slope = jax.value_and_grad(outer_loss(problem, end, task.data))(
            end.params
        )
        gradient = _through_solution(problem, task, end, slope, solver_steps)
        return Estimate(gradient, loss, end, reports, taken, memory)

    return Estimator("implicit", estimate)


def _through_solution(
    problem: Problem, task: Task, end: PyTree, slope: PyTree, solver_steps: int
) -> PyTree:
    """The derivative in eta of a loss with this slope at the solution."""
    objective = problem.objective
    assert objective is not None
    last = jax.tree.map(lambda x: x[-1], task.batches)

    def inner_slope(eta: PyTree, params: Params) -> PyTree:
        return jax.grad(objective, 1)(eta, params, end, last)

    def curvature(direction: Params) -> PyTree:
        def at(params: Params) -> PyTree:
            return inner_slope(task.eta, params)

        return jax.jvp(at, (end.params,), (direction,))[1]

    dtype = jnp.result_type(*jax.tree.leaves(slope))
    solved, _ = jax.scipy.sparse.linalg.cg(
        curvature, slope, tol=10 * float(jnp.finfo(dtype).eps), maxiter=solver_steps
    )
    _, pull_back = jax.vjp(lambda eta: inner_slope(eta, end.params), task.eta)
    return pull_back(jax.tree.map(jnp.negative, solved))[0]
