"""The truth meter: an estimator against the exact derivative of the same inner loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads.meta.estimate import Estimator, Task
from rl_grads.meta.inner import Problem
from rl_grads.meta.unrolled import full
from rl_grads.typing import PyTree


class Truth(NamedTuple):
    """How an estimate compares with the full unroll.

    Attributes:
        cosine: Of the angle between them; 0 where one of them is zero, 1 where both
            are.
        bias: `|estimate - full| / |full|`; it sees scale, which the cosine does not.
    """

    cosine: jax.Array
    bias: jax.Array


def compare(estimate: PyTree, exact: PyTree) -> Truth:
    """Cosine and bias of an estimate; pytrees of one structure.

    Example:
        >>> found = compare(jnp.array([3.0, 0.0]), jnp.array([3.0, 4.0]))
        >>> round(float(found.cosine), 4), round(float(found.bias), 4)
        (0.6, 0.8)
    """
    size, length = optax.tree.norm(estimate), optax.tree.norm(exact)
    agree = (size == 0) & (length == 0)
    product = size * length
    cosine = optax.tree.vdot(estimate, exact) / jnp.where(product > 0, product, 1.0)
    away = optax.tree.norm(optax.tree.sub(estimate, exact))
    return Truth(
        cosine=jnp.where(agree, 1.0, jnp.where(product > 0, cosine, 0.0)),
        bias=jnp.where(agree, 0.0, away / length),
    )


def meter(estimator: Estimator, problem: Problem, task: Task, draws: int = 16) -> Truth:
    """Compare an estimator that begins afresh with `full`, on the same inner loop.

    Args:
        estimator: Random ones are averaged over `draws` keys.
        problem: The problem.
        task: One meta-gradient, with the batches of the estimator.
        draws: How many keys.
    """
    count = jax.tree.leaves(task.batches)[0].shape[0] - estimator.further
    inner = jax.tree.map(lambda x: x[:count], task.batches)
    exact = full().estimate(problem, task._replace(batches=inner), ()).gradient

    def estimate(key: jax.Array | None) -> PyTree:
        memory = estimator.init(task.eta, task.state)
        return estimator.estimate(problem, task._replace(key=key), memory).gradient

    if not estimator.draws or task.key is None:
        return compare(estimate(task.key), exact)
    found = jax.lax.map(estimate, jax.random.split(task.key, draws))
    return compare(jax.tree.map(lambda x: jnp.mean(x, 0), found), exact)
