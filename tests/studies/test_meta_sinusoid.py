"""The sinusoid tasks are those of the paper, and a start for them can be learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.meta.few_shot import Budget
from rl_grads.studies import meta_sinusoid as sinusoid

pytestmark = pytest.mark.slow


def test_the_distribution_of_tasks():
    tasks = jax.vmap(sinusoid.draw_task)(jax.random.split(jax.random.key(0), 20_000))
    for values, low, high in (
        (tasks.amplitude, 0.1, 5.0),
        (tasks.phase, 0.0, np.pi),
    ):
        assert low <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.05)
    assert abs(np.corrcoef(tasks.amplitude, tasks.phase)[0, 1]) < 0.03


@pytest.mark.parametrize("fresh", [False, True])
def test_a_task_is_one_sinusoid_everywhere(fresh):
    batches, queries = sinusoid.sample(3, fresh)(jax.random.key(5))
    seen = batches.transitions
    assert seen.x.shape == (3, 10)
    assert queries.x.shape == (100,)
    assert bool(jnp.all(seen.x[0] == seen.x[1])) is not fresh
    x = np.concatenate([seen.x.ravel(), queries.x])
    y = np.concatenate([seen.y.ravel(), queries.y])
    assert -5 <= x.min() < -4
    assert 4 < x.max() <= 5
    _, residual, _, _ = np.linalg.lstsq(np.c_[np.sin(x), np.cos(x)], y, rcond=None)
    assert residual < 1e-6


def test_the_network():
    shapes = jax.tree.map(lambda x: x.shape, sinusoid.random_params(0))
    assert sorted(jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, tuple))) == [
        (1,),
        (1, 40),
        (40,),
        (40,),
        (40, 1),
        (40, 40),
    ]


def test_errors_begin_with_those_of_the_start():
    params = sinusoid.random_params(1)
    found = jax.jit(lambda p: sinusoid.adapted_errors(p, tasks=5))(params)
    assert found.shape == (5, 6)
    key = jax.random.fold_in(jax.random.key(0), 2)
    _, queries = sinusoid.sample(5, fresh=False)(jax.random.split(key, 5)[3])
    expected = sinusoid.mean_square(params, queries)
    np.testing.assert_allclose(found[3, 0], expected, rtol=1e-5)


@pytest.mark.slow
def test_maml_learns_to_adapt():
    budget = Budget(updates=1500)
    test = jax.jit(sinusoid.adapted_errors)
    learned = jax.jit(lambda: sinusoid.learn("MAML", budget, 0))()
    joint = jax.jit(lambda: sinusoid.learn("joint", budget, 0))()
    assert test(learned)[:, 1].mean() < 0.75 * test(joint)[:, 1].mean()
