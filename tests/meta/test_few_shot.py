"""Learning a start: by hand on quadratic tasks, by differences on a small network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_grads.agents.networks import mlp
from rl_grads.agents.schema import MLP
from rl_grads.meta import estimators, few_shot
from rl_grads.meta.few_shot import Budget, FewShot
from rl_grads.meta.inner import Batch, Descent, problem

pytestmark = pytest.mark.slow

RATE, TASKS = 0.25, 4
KEY = jax.random.key(3)
NETWORK = mlp(MLP(hidden=(3,), activation="tanh"), 1)


def setting(loss, sample, params):
    descent = Descent(loss, optax.sgd)
    made = problem(
        descent,
        lambda state, data: loss(state.params, data, None),
        configure=lambda eta: RATE,
    )
    return FewShot(sample, made, descent.init(params, RATE))


def quadratic(updates):
    """Tasks are points around (1, 2); the loss is half the squared distance."""

    def sample(key):
        point = jnp.array([1.0, 2.0]) + 0.1 * jax.random.normal(key, (2,))
        return Batch(few_shot.repeated(point, updates)), point

    def loss(params, point, config):
        return 0.5 * jnp.sum(jnp.square(params - point))

    return setting(loss, sample, jnp.zeros(2))


def regression(updates):
    """Lines through a tanh network."""

    def draw(key, slope):
        x = jax.random.normal(key, (5,))
        return x, slope * x

    def sample(key):
        keys = jax.random.split(key, updates + 2)
        slope = jax.random.normal(keys[0])
        seen = jax.vmap(lambda k: draw(k, slope))(keys[2:])
        return Batch(seen), draw(keys[1], slope)

    def loss(params, points, config):
        x, y = points
        found = jax.vmap(lambda x: NETWORK.apply(params, x[None])[0])(x)
        return jnp.mean(jnp.square(found - y))

    params = NETWORK.init(jax.random.key(0), jnp.zeros(1))
    return setting(loss, sample, params), params, loss


def slope(setting, estimator, params):
    program = jax.jit(lambda p: few_shot.slope(setting, estimator, p, TASKS, KEY))
    return program(params)


@pytest.mark.parametrize("updates", [1, 3])
def test_maml_is_finite_differences(double_precision, updates):
    tasks, params, _ = regression(updates)
    keys = iter(jax.random.split(jax.random.key(1), 10))
    way = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), params)
    program = jax.jit(lambda p: few_shot.slope(tasks, estimators.full(), p, TASKS, KEY))
    h = 1e-5
    ends = [program(optax.tree.add_scale(params, s * h, way))[1] for s in (1, -1)]
    gradient, _ = program(params)
    expected = float(ends[0] - ends[1]) / (2 * h)
    assert abs(expected) > 1e-2
    assert float(optax.tree.vdot(gradient, way)) == pytest.approx(expected, rel=1e-8)


def test_first_order_is_the_slope_after_the_updates(double_precision):
    tasks, params, loss = regression(2)

    def adapted(key):
        batches, data = tasks.sample(key)
        p = params
        for k in range(2):
            points = jax.tree.map(lambda x, k=k: x[k], batches.transitions)
            p = optax.tree.add_scale(p, -RATE, jax.grad(loss)(p, points, None))
        return jax.grad(loss)(p, data, None)

    each = jax.jit(jax.vmap(adapted))(jax.random.split(KEY, TASKS))
    expected = jax.tree.map(lambda x: x.mean(0), each)
    found, _ = slope(tasks, estimators.first_order(), params)
    exact, _ = slope(tasks, estimators.full(), params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14),
        found,
        expected,
    )
    assert float(optax.tree.norm(optax.tree.sub(found, exact))) > 1e-3


def test_reptile_with_one_update_is_joint_training(double_precision):
    """On the points of the update: its way is the step size times their gradient."""
    given, params, _ = regression(1)

    def same(key):
        batches, _ = given.sample(key)
        return batches, jax.tree.map(lambda x: x[0], batches.transitions)

    tasks = given._replace(sample=same)
    reptile, _ = slope(tasks, estimators.reptile(), params)
    joint, _ = slope(tasks, few_shot.joint(), params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, RATE * b, rtol=1e-10, atol=1e-14),
        reptile,
        joint,
    )


def test_losses_after_each_update_by_hand():
    tasks = quadratic(2)
    found = jax.jit(lambda p: few_shot.evaluate(tasks, p, 3, KEY))(jnp.zeros(2))
    assert found.shape == (3, 3)
    # Each update leaves 1 - RATE of the distance.
    np.testing.assert_allclose(found[:, 1], 0.75**2 * found[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found[:, 2], 0.75**4 * found[:, 0], rtol=1e-6)
    points = jax.vmap(lambda k: tasks.sample(k)[1])(jax.random.split(KEY, 3))
    np.testing.assert_allclose(found[:, 0], 0.5 * jnp.sum(points**2, -1), rtol=1e-6)


@pytest.mark.parametrize("name", ["full", "first_order", "reptile", "joint"])
def test_the_centre_of_the_tasks_is_learned(name):
    estimator = few_shot.joint() if name == "joint" else estimators.by_name(name)
    budget = Budget(updates=300, tasks=10, learning_rate=0.02)
    tasks = quadratic(2)
    program = jax.jit(
        lambda: few_shot.learn(tasks, estimator, jnp.zeros(2), budget, KEY)
    )
    params, losses = program()
    np.testing.assert_allclose(params, [1.0, 2.0], atol=0.05)
    assert losses.shape == (300,)
    assert losses[-50:].mean() < 0.05 * losses[0]
