"""Meta-gradients without differentiation: evolution strategies."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.meta.estimate import Estimate, Estimator, Task, check_count, run
from rl_grads.meta.inner import Problem
from rl_grads.typing import PyTree, State


class Particles(NamedTuple):
    """Antithetic pairs `[N, ...]`: their states and their accumulated perturbations."""

    plus: Any
    minus: Any
    moved: jax.Array


def persistent_evolution(particles: int = 8, noise: PyTree = 0.1) -> Estimator:
    """Persistent evolution strategies (Vicol et al. 2021): unbiased over any horizon.

    Pairs of inner loops live on with perturbations of eta of their own; the loss of
    each counts for all perturbations that it has lived through. What is estimated is
    the derivative of the loss smoothed by the noise.

    Args:
        particles: Antithetic pairs N; each costs two inner loops.
        noise: Standard deviation of the perturbations; may be traced.
    """
    check_count("particles", particles)

    def init(eta: PyTree, state: State) -> Particles:
        def copied(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (particles, *jnp.shape(x)))

        copies = jax.tree.map(copied, state)
        return Particles(copies, copies, jnp.zeros((particles, len(_row(eta)))))

    def estimate(problem: Problem, task: Task, memory: Particles) -> Estimate:
        if task.key is None:
            raise ValueError("key: expected a PRNG key for persistent_evolution")
        center, tree = _row(task.eta), jax.tree.structure(task.eta)

        def live(state: State, shift: jax.Array) -> tuple[PyTree, jax.Array]:
            eta = jax.tree.unflatten(tree, list(center + shift))
            end, _ = run(problem, eta, state, task.batches)
            return end, problem.loss(end, task.data)

        shift = noise * jax.random.normal(task.key, memory.moved.shape, center.dtype)
        plus, loss_plus = jax.vmap(live)(memory.plus, shift)
        minus, loss_minus = jax.vmap(live)(memory.minus, -shift)
        moved = memory.moved + shift
        slopes = (loss_plus - loss_minus)[:, None] * moved / (2 * noise**2)
        end, (reports, taken) = run(problem, task.eta, task.state, task.batches)
        return Estimate(
            gradient=jax.tree.unflatten(tree, list(jnp.mean(slopes, 0))),
            loss=problem.loss(end, task.data),
            state=end,
            reports=reports,
            taken=taken,
            memory=Particles(plus, minus, moved),
        )

    return Estimator("persistent_evolution", estimate, init, draws=True)


def _row(eta: PyTree) -> jax.Array:
    """The numbers of eta in one row."""
    return jnp.stack([jnp.asarray(x) for x in jax.tree.leaves(eta)])
