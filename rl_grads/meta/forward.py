"""The derivative of the inner state, carried forward along the updates."""

import jax
import jax.numpy as jnp
import optax

from rl_grads.autodiff.closed import split_floats
from rl_grads.autodiff.steps import linearize_through_reverse
from rl_grads.meta.estimate import Estimate, Estimator, Task
from rl_grads.meta.inner import Problem
from rl_grads.typing import PyTree, State


def forward(trace_decay: PyTree = 1.0) -> Estimator:
    """Forward accumulation with a decaying trace.

    `z <- decay (d step / d state) z + d step / d eta` and the gradient is the outer
    slope along z (Williams & Zipser 1989; with decay Xu et al. 2018, eq. 12, here with
    the exact Jacobian). Memory is one state per learned number, however many updates
    pass. At decay 1 with a fresh trace it is `full`; with an old trace it also sees the
    updates before.

    Args:
        trace_decay: 1 forgets nothing, 0 sees one update; may be traced.
    """

    def estimate(problem: Problem, task: Task, memory: State) -> Estimate:
        directions = _unit_vectors(task.eta)

        def step(carry: tuple[State, State], batch: PyTree) -> tuple[PyTree, PyTree]:
            state, trace = carry
            floats, rebuild = split_floats(state)

            def moved(floats: PyTree, eta: PyTree) -> tuple[PyTree, PyTree]:
                new, out = problem.step(eta, rebuild(floats), batch)
                return split_floats(new)[0], (new, out)

            _, push, (new, out) = linearize_through_reverse(moved, floats, task.eta)
            faded = jax.tree.map(lambda z: trace_decay * z, trace)
            return (new, jax.vmap(push)(faded, directions)), out

        begin = (task.state, memory)
        (end, trace), (reports, taken) = jax.lax.scan(step, begin, task.batches)
        floats, rebuild = split_floats(end)
        loss, slope = jax.value_and_grad(
            lambda floats: problem.loss(rebuild(floats), task.data)
        )(floats)
        along = jnp.asarray(jax.vmap(lambda z: optax.tree.vdot(slope, z))(trace))
        gradient = jax.tree.unflatten(jax.tree.structure(task.eta), list(along))
        return Estimate(gradient, loss, end, reports, taken, trace)

    return Estimator("forward", estimate, _no_trace)


def _no_trace(eta: PyTree, state: State) -> list[jax.Array]:
    count = len(jax.tree.leaves(eta))
    floats, _ = split_floats(state)
    return [jnp.zeros((count, *x.shape), x.dtype) for x in floats]


def _unit_vectors(eta: PyTree) -> PyTree:
    """For each number of eta the direction in which it alone moves, stacked."""
    leaves, tree = jax.tree.flatten(eta)
    rows = jnp.eye(len(leaves), dtype=jnp.result_type(*leaves))
    return jax.tree.unflatten(tree, list(rows))
