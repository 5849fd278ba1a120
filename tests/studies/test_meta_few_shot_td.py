"""Random chains, what a learner sees of them, and derivatives through its updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_grads.meta import few_shot
from rl_grads.meta.estimators import full
from rl_grads.studies import meta_few_shot_td as few_shot_td
from rl_grads.studies.meta_few_shot_td import NUM_STATES, Chain
from rl_grads.td import losses

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compiler")]

KEY = jax.random.key(1)


def chain(bias=0.6, left=-0.5, right=0.75):
    return Chain(*(jnp.asarray(x, float) for x in (bias, left, right)))


@pytest.mark.parametrize("bias", [0.3, 0.5, 0.64])
def test_true_values_are_the_gamblers(double_precision, bias):
    """The probability of the right end from state i is (1 - q^i) / (1 - q^20)."""
    i = np.arange(1, NUM_STATES + 1)
    q = (1 - bias) / bias
    wins = i / 20 if bias == 0.5 else (1 - q**i) / (1 - q**20)
    expected = 0.75 * wins - 0.5 * (1 - wins)
    found = few_shot_td.true_values(chain(bias))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_distribution_of_tasks():
    found = jax.vmap(few_shot_td.draw_chain)(jax.random.split(KEY, 10_000))
    for values, low, high in zip(found, (0.3, -1, -1), (0.7, 1, 1), strict=True):
        assert low <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.03)


def test_an_episode_goes_from_the_centre_to_one_end():
    keys = jax.random.split(KEY, 200)
    counts = np.asarray(jax.jit(jax.vmap(few_shot_td.walk, (0, None)))(keys, chain()))
    left, right = counts[:, 0, 0], counts[:, -1, 1]
    assert set(left + right) == {1.0}
    # Ten more steps to the one side than to the other.
    net = counts[..., 1].sum(-1) - counts[..., 0].sum(-1)
    np.testing.assert_array_equal(net, 10 * (right - left))
    # What goes in goes out, but for the start.
    inward = np.zeros((200, NUM_STATES))
    inward[:, 1:] += counts[:, :-1, 1]
    inward[:, :-1] += counts[:, 1:, 0]
    inward[:, 9] += 1
    np.testing.assert_array_equal(inward, counts.sum(-1))
    # q = 2/3: from the centre the right end has 1 / (1 + q^10).
    assert right.mean() == pytest.approx(1 / (1 + (2 / 3) ** 10), abs=0.03)
    share = counts[..., 1].sum() / counts.sum()
    assert share == pytest.approx(0.6, abs=0.02)


def test_a_weighted_batch_stands_for_all_steps(double_precision):
    """One update of the agent on the 38 transitions and on the steps one by one."""
    learner = few_shot_td.LEARNERS["table"]()
    tasks = few_shot_td.setting(learner, 2.0)
    batches, _ = few_shot_td.sample(KEY)
    assert batches.weights.shape == (5, 38)
    batch = jax.tree.map(lambda x: x[0], batches)
    share = np.asarray(batch.weights) / 38
    assert share.sum() == pytest.approx(1.0)
    least = share[share > 0].min()
    times = np.rint(share / least).astype(int)
    assert share == pytest.approx(times * least)
    rows = np.repeat(np.arange(38), times)
    each = jax.tree.map(lambda x: x[rows], batch.transitions)
    found = [
        jax.jit(tasks.problem.step)({}, tasks.state, one)[0].params["w"]
        for one in (batch, batch._replace(transitions=each, weights=None))
    ]
    assert float(jnp.abs(found[0]).max()) > 0.01
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-15)


def test_the_best_table_is_zero():
    """Chains with opposite rewards have opposite gradients there."""
    learner = few_shot_td.LEARNERS["table"]()
    tasks = few_shot_td.setting(learner, 4.0)

    def opposite(key):
        batches, fresh = few_shot_td.sample(key)
        other = batches.transitions._replace(r_t=-batches.transitions.r_t)
        return batches._replace(transitions=other), fresh._replace(values=-fresh.values)

    def slope(tasks):
        zero = {"w": jnp.zeros((1, NUM_STATES))}
        return jax.jit(lambda: few_shot.slope(tasks, full(), zero, 3, KEY))()[0]["w"]

    found, mirrored = slope(tasks), slope(tasks._replace(sample=opposite))
    assert float(jnp.abs(found).max()) > 1e-3
    np.testing.assert_allclose(found, -mirrored, rtol=1e-5, atol=1e-8)


def test_the_derivative_through_the_updates(double_precision):
    """Finite differences agree with the agent's loss, not with the stop inside it."""
    learner = few_shot_td.LEARNERS["table"]()
    params = learner.random(KEY)
    way = {"w": jax.random.normal(jax.random.key(2), (1, NUM_STATES))}

    def program(loss):
        tasks = few_shot_td.setting(learner, 4.0, loss)
        return jax.jit(lambda p: few_shot.slope(tasks, full(), p, 3, KEY))

    right, stopped = program(losses.td), program(losses.td_with_stop)
    h = 1e-5
    ends = [right(optax.tree.add_scale(params, s * h, way))[1] for s in (1, -1)]
    expected = float(ends[0] - ends[1]) / (2 * h)
    (found, loss), (wrong, same) = right(params), stopped(params)
    assert float(loss) == pytest.approx(float(same), rel=1e-12)
    assert float(optax.tree.vdot(found, way)) == pytest.approx(expected, rel=1e-7)
    assert abs(float(optax.tree.vdot(wrong, way)) - expected) > 0.05 * abs(expected)


@pytest.mark.slow
def test_a_learned_start_is_better_than_a_joint_one():
    found = few_shot_td.measure(
        few_shot_td.LEARNERS["MLP"](), few_shot.Budget(updates=100), tasks=50
    )
    ends = {name: one.errors[:, -1].mean() for name, one in found.items()}
    assert ends["learned"] < ends["joint"] < ends["random"]
