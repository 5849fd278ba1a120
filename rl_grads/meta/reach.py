"""Numbers that cannot be learned because nothing depends on them."""

import jax

from rl_grads.autodiff.reach import reaching
from rl_grads.config import ConfigError
from rl_grads.meta.estimate import Task
from rl_grads.meta.inner import Problem
from rl_grads.typing import PyTree, State

_ENOUGH = 3  # What reaches the parameters at all does so within three updates.


def check_reach(problem: Problem, task: Task) -> None:
    """Refuse what the outer loss does not depend on through the updates.

    Nothing is computed; shapes will do in place of arrays.

    Raises:
        ConfigError: Names the number; its meta-gradient is exactly zero.
    """
    count = min(_ENOUGH, jax.tree.leaves(task.batches)[0].shape[0])
    step = jax.jit(problem.step)  # Traced once.

    def outer(eta: PyTree, state: State, batches: PyTree, data: PyTree) -> jax.Array:
        state = problem.start(eta, state)
        for k in range(count):
            state, _ = step(eta, state, jax.tree.map(lambda x, k=k: x[k], batches))
        return problem.loss(state, data)

    found, *_ = reaching(outer, task.eta, task.state, task.batches, task.data)
    for name in task.eta:
        if not any(jax.tree.leaves(found[name])):
            raise ConfigError(
                f"meta.learn={name}: expected a number that the outer loss depends on "
                "through the updates; its meta-gradient is exactly zero"
            )
