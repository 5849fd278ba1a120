"""The plane and its goals, what the authors' numbers imply, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_grads.agents import policy_gradient
from rl_grads.meta import few_shot
from rl_grads.meta.estimators import full
from rl_grads.studies import meta_navigation_2d as navigation_2d
from rl_grads.studies.meta_navigation_2d import POLICY, Task

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


@pytest.fixture
def still():
    """A policy that stands still but for its noise."""
    return jax.tree.map(jnp.zeros_like, navigation_2d.random_params(0))


# -------------------------------------------------------------------------- environment


def test_a_step_by_hand():
    goal = jnp.array([0.26, -0.21])
    moved = navigation_2d.move(jnp.array([0.2, -0.2]), jnp.array([0.6, 0.1]), goal)
    np.testing.assert_allclose(moved.position, [0.26, -0.19], atol=1e-7)
    assert float(moved.reward) == pytest.approx(-0.02, abs=1e-6)
    assert not bool(moved.reached)
    moved = navigation_2d.move(jnp.array([0.2, -0.2]), jnp.array([0.55, -0.05]), goal)
    np.testing.assert_allclose(moved.position, [0.255, -0.205], atol=1e-7)
    assert bool(moved.reached)


def test_a_step_is_at_most_a_tenth_in_each_coordinate():
    moved = navigation_2d.move(jnp.zeros(2), jnp.array([5.0, -0.5]), jnp.ones(2))
    np.testing.assert_allclose(moved.position, [0.1, -0.05], atol=1e-7)


def test_the_distribution_of_goals():
    goals = jax.vmap(navigation_2d.draw_goal)(jax.random.split(KEY, 10_000))
    assert goals.shape == (10_000, 2)
    assert -0.5 <= goals.min() < -0.499
    assert 0.499 < goals.max() <= 0.5
    np.testing.assert_allclose(goals.mean(0), 0, atol=0.01)
    assert abs(np.corrcoef(goals.T)[0, 1]) < 0.04


def test_standing_still_scores_what_the_authors_say(still):
    """-40.1, on their forty goals: the reward is the distance, not its square."""
    goals = jnp.asarray(navigation_2d.published_goals())
    one = jax.vmap(lambda g: navigation_2d.episode(still, g, jnp.zeros((100, 2))))
    found = policy_gradient.returns(jax.jit(one)(goals))
    np.testing.assert_allclose(found, navigation_2d.standing_still(goals), rtol=1e-5)
    assert float(found.mean()) == pytest.approx(-40.1, abs=0.05)


def test_the_shortest_way_scores_what_the_authors_say():
    """-0.54: rewards are those of where a step leads, the last one at the goal."""
    found = jax.jit(navigation_2d.shortest_way)(navigation_2d.published_goals())
    assert float(found.mean()) == pytest.approx(-0.54, abs=0.005)
    # Two full steps and a half one: .15 and .05 are left, then nothing.
    found = navigation_2d.shortest_way(jnp.array([[0.25, 0.0]]))
    assert float(found[0]) == pytest.approx(-0.2, abs=1e-5)


# ------------------------------------------------------------------------- trajectories


def test_an_episode_ends_at_the_goal(still):
    noise = jnp.zeros((100, 2)).at[:, 0].set(1.0)
    seen = navigation_2d.episode(still, jnp.array([0.3, 0.005]), noise)
    assert seen.alive.tolist() == [1.0] * 3 + [0.0] * 97
    np.testing.assert_allclose(seen.s_tm1[:4, 0], [0, 0.1, 0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(seen.r_t[:2], [-0.2, -0.1], atol=1e-3)
    assert float(jnp.abs(seen.r_t[3:]).max()) == 0.0


def test_trajectories_are_those_of_the_policy():
    params = navigation_2d.random_params(0)
    seen = jax.jit(navigation_2d.episodes)(params, Task(jnp.array([0.4, 0.1]), KEY))
    assert seen.a_tm1.shape == (20, 100, 2)
    assert float(jnp.abs(seen.s_tm1[:, 0]).max()) == 0.0
    moves = 0.1 * jnp.clip(seen.a_tm1[:, :-1], -1, 1)
    away = seen.s_tm1[:, 1:] - seen.s_tm1[:, :-1] - moves
    assert float(jnp.abs(away * seen.alive[:, 1:, None]).max()) < 1e-6
    each = jax.vmap(jax.vmap(POLICY.log_prob, (None, 0, 0)), (None, 0, 0))
    found = each(params, seen.s_tm1, seen.a_tm1)
    np.testing.assert_allclose(found, seen.log_prob, rtol=1e-5, atol=1e-5)


def test_each_update_sees_trajectories_of_its_own():
    batches, task = navigation_2d.sample(KEY)
    goals, keys = batches.transitions
    assert goals.tolist() == [task.goal.tolist()] * 2
    drawn = {tuple(jax.random.key_data(k).tolist()) for k in [*keys, task.key]}
    assert len(drawn) == 3


# -------------------------------------------------------------------------- derivatives


@jax.jit
def moved(params, rate, seen):
    """One inner update on given trajectories."""
    slope = jax.grad(policy_gradient.loss, 1)(POLICY, params, *seen)
    return optax.tree.add_scale(params, -rate, slope)


def test_the_derivative_is_finite_differences_with_data_fixed(double_precision):
    tasks, params = navigation_2d.setting(), navigation_2d.random_params(1)
    batches, task = tasks.sample(jax.random.split(KEY, 1)[0])
    first, second = (
        jax.tree.map(lambda x, k=k: x[k], batches.transitions) for k in (0, 1)
    )
    gather = jax.jit(navigation_2d.experience)
    one = gather(params, first)
    two = gather(moved(params, 0.5, one), second)
    three = gather(moved(moved(params, 0.5, one), 0.25, two), task)

    @jax.jit
    def after(params):
        end = moved(moved(params, 0.5, one), 0.25, two)
        return policy_gradient.loss(POLICY, end, *three)

    keys = iter(jax.random.split(jax.random.key(3), 10))
    way = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), params)
    h = 1e-6
    ends = [after(optax.tree.add_scale(params, s * h, way)) for s in (1, -1)]
    expected = float(ends[0] - ends[1]) / (2 * h)
    program = jax.jit(lambda p: few_shot.slope(tasks, full(None), p, 1, KEY))
    slope, value = program(params)
    assert abs(expected) > 1e-2
    assert float(optax.tree.vdot(slope, way)) == pytest.approx(expected, rel=1e-5)
    score = policy_gradient.returns(three.trajectories).mean()
    assert float(value) == pytest.approx(-float(score), rel=1e-9)


def test_a_trial_begins_with_the_start(still):
    goals = navigation_2d.published_goals()[:3]
    found = jax.jit(navigation_2d.meet_all)(still, goals)
    assert found.returns.shape == found.calm.shape == (3, 3)
    assert found.path.shape == (3, 3, 100, 2)
    np.testing.assert_allclose(
        found.calm[:, 0], navigation_2d.standing_still(goals), rtol=1e-5
    )
    assert float(jnp.abs(found.path[:, 0]).max()) == 0.0


def test_goals_have_two_coordinates(still):
    with pytest.raises(ValueError, match=r"goals: expected the shape \[n, 2\]"):
        navigation_2d.meet_all(still, jnp.zeros(2))


@pytest.mark.parametrize("updates", [0, 1.5, True])
def test_a_budget_is_a_positive_number_of_updates(updates):
    with pytest.raises(ValueError, match=f"updates={updates!r}: expected an integer"):
        navigation_2d.budget(updates)


def test_a_few_updates_learn_to_adapt():
    goals = navigation_2d.published_goals()
    test = jax.jit(navigation_2d.meet_all)
    before = test(navigation_2d.random_params(0), goals).returns.mean(0)
    budget = navigation_2d.budget(10)._replace(tasks=10, learning_rate=3e-3)
    begin = navigation_2d.begin(budget, 0)
    program = jax.jit(lambda begin, keys: navigation_2d.advance(budget, begin, keys))
    end, curve = program(begin, jax.random.split(KEY, 10))
    after = test(end.params, goals).returns.mean(0)
    assert curve.shape == (10,)
    assert float(after[2]) > float(before[2]) + 2
    assert float(after[2]) > float(after[0]) + 5
