"""Traces and n-step returns against hand-worked numbers and their forward views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.td import losses, traces
from rl_grads.td.traces import Settings
from rl_grads.td.transition import Transition

pytestmark = pytest.mark.usefixtures("double_precision")

KINDS = ("accumulating", "replacing", "true_online")


def linear(w, x):
    return jnp.sum(w * x)


def steps(features, rewards, discount, ended=None, rho=1.0):
    """Consecutive transitions; `ended` gives each 0, 1 (terminated), 2 (truncated)."""
    features, size = jnp.asarray(features, float), len(rewards)
    ended = np.zeros(size) if ended is None else np.asarray(ended)
    return Transition(
        s_tm1=features[:-1],
        a_tm1=jnp.zeros(size, jnp.int32),
        r_t=jnp.asarray(rewards, float),
        s_t=features[1:],
        terminated=jnp.asarray(ended == 1),
        truncated=jnp.asarray(ended == 2),
        discount_t=jnp.asarray(discount * (ended != 1)),
        rho=jnp.broadcast_to(jnp.asarray(rho, float), (size,)),
    )


def at(transitions, t):
    return jax.tree.map(lambda leaf: leaf[t], transitions)


def follow(transitions, w, settings, step_size=0.0):
    """TD(lambda) along a trajectory: directions, and weights after each step."""
    w, trace = jnp.asarray(w, float), traces.start(jnp.asarray(w, float))
    directions, weights = [], []
    for t in range(len(transitions.r_t)):
        found = traces.td_lambda(linear, trace, w, w, at(transitions, t), settings)
        w, trace = w - step_size * found.direction, found.trace
        directions.append(found.direction)
        weights.append(w)
    return np.array(directions), np.array(weights)


# ------------------------------------------------------------------------ the rules


def test_traces_of_a_state_that_is_visited_twice():
    first, second = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    z = traces.start(first).eligibility
    accumulated = replaced = dutch = z
    for x in (first, second, first):
        accumulated = traces.accumulating(accumulated, x, 0.5)
        replaced = traces.replacing(replaced, x, 0.5)
        dutch = traces.dutch(dutch, x, 0.5, step_size=0.2)
    assert accumulated.tolist() == [1.25, 0.5]
    assert replaced.tolist() == [1.0, 0.5]
    # 1/4 + (1 - 0.2 * 1/2 * 1/2): what the third visit finds, and what it adds.
    np.testing.assert_allclose(dutch, [1.2, 0.5], rtol=1e-15)


@pytest.mark.slow
def test_traces_are_trees_of_the_shape_of_the_parameters():
    z = {"a": jnp.array([2.0]), "b": jnp.array([[4.0, 0.0]])}
    x = {"a": jnp.array([1.0]), "b": jnp.array([[0.0, 3.0]])}
    dutch = traces.dutch(z, x, 0.5, step_size=1.0)  # z.x = 2, so 1 - 0.5 * 2 = 0
    assert jax.tree.map(lambda leaf: leaf.tolist(), dutch) == {
        "a": [1.0],
        "b": [[2.0, 0.0]],
    }
    replaced = traces.replacing(z, x, 0.5)
    assert replaced["b"].tolist() == [[2.0, 3.0]]


# ---------------------------------------------------------------------- TD(lambda)


@pytest.mark.slow
def test_two_steps_by_hand():
    # v = (1, 2, 0); errors 3 + 0.5 * 2 - 1 = 3 and 1 + 0 - 2 = -1; decay 0.5 * 0.8.
    walk = steps(np.eye(3), [3.0, 1.0], 0.5, ended=[0, 1])
    directions, _ = follow(walk, [1.0, 2.0, 0.0], Settings("accumulating", 0.8, 0.0))
    np.testing.assert_allclose(directions, [[-3, 0, 0], [0.4, 1, 0]], rtol=1e-15)


def test_off_policy_each_ratio_multiplies_what_came_before():
    walk = steps(np.eye(3), [3.0, 1.0], 0.5, ended=[0, 1], rho=[2.0, 3.0])
    directions, _ = follow(walk, [1.0, 2.0, 0.0], Settings("accumulating", 0.8, 0.0))
    np.testing.assert_allclose(directions, [[-6, 0, 0], [2.4, 3, 0]], rtol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_lambda_zero_is_td(kind):
    rng = np.random.default_rng(0)
    rho = 1.0 if kind == "true_online" else rng.uniform(0, 2, 6)
    walk = steps(rng.normal(size=(7, 3)), rng.normal(size=6), 0.9, rho=rho)
    w = rng.normal(size=3)
    directions, weights = follow(walk, w, Settings(kind, 0.0, 0.1), step_size=0.1)

    class Network:
        apply = staticmethod(lambda params, obs: linear(params, obs)[None])

    gradient = jax.grad(losses.td(Network), has_aux=True)
    before = np.vstack([w, weights[:-1]])
    for t in range(6):
        expected, _ = gradient(before[t], before[t], at(walk, t), None)
        np.testing.assert_allclose(directions[t], expected, rtol=1e-12)


def episode(seed, size, end):
    """Random features and rewards; the last transition ends the episode."""
    rng = np.random.default_rng(seed)
    ended = [0] * (size - 1) + [end]
    return steps(rng.normal(size=(size + 1, 3)), rng.normal(size=size), 0.9, ended)


@pytest.mark.parametrize("end", [1, 2])
@pytest.mark.parametrize("trace_decay", [0.0, 0.7, 1.0])
def test_offline_the_backward_view_is_the_forward_view(trace_decay, end):
    walk, w = episode(1, 6, end), np.array([0.3, -1.0, 0.5])
    settings = Settings("accumulating", trace_decay, 0.0)
    directions, _ = follow(walk, w, settings)
    returns = traces.lambda_returns(
        walk.r_t, walk.discount_t, walk.s_t @ w, trace_decay
    )
    forward = (returns - walk.s_tm1 @ w) @ walk.s_tm1
    np.testing.assert_allclose(-directions.sum(0), forward, rtol=1e-12)


@pytest.mark.slow
def test_offline_lambda_one_is_monte_carlo():
    walk, w = episode(2, 5, end=1), np.array([0.3, -1.0, 0.5])
    directions, _ = follow(walk, w, Settings("accumulating", 1.0, 0.0))
    returns = [
        sum(0.9**k * float(r) for k, r in enumerate(walk.r_t[t:])) for t in range(5)
    ]
    expected = (np.array(returns) - walk.s_tm1 @ w) @ walk.s_tm1
    np.testing.assert_allclose(-directions.sum(0), expected, rtol=1e-12)


def online_lambda_return(walk, w0, step_size, trace_decay):
    """The weights after each step, all updates made anew at each horizon.

    Sutton & Barto 2018, section 12.4: for each horizon h the updates of the states
    0 .. h-1, towards lambda-returns that look no further than h.
    """
    x, after = np.asarray(walk.s_tm1), np.asarray(walk.s_t)
    reward, discount = np.asarray(walk.r_t), np.asarray(walk.discount_t)
    weights = [np.asarray(w0)]

    def n_step(t, end):
        value = float(after[end - 1] @ weights[end - 1])
        for k in reversed(range(t, end)):
            value = reward[k] + discount[k] * value
        return value

    def target(t, h):
        shares = [(1 - trace_decay) * trace_decay**n for n in range(h - t - 1)]
        shares.append(trace_decay ** (h - t - 1))
        return sum(s * n_step(t, t + n + 1) for n, s in enumerate(shares))

    for h in range(1, len(reward) + 1):
        w = np.asarray(w0)
        for t in range(h):
            w = w + step_size * (target(t, h) - w @ x[t]) * x[t]
        weights.append(w)
    return np.array(weights[1:])


@pytest.mark.parametrize("end", [1, 2])
@pytest.mark.parametrize("trace_decay", [0.0, 0.6, 1.0])
def test_true_online_is_the_online_lambda_return_algorithm(trace_decay, end):
    walk, w0 = episode(3, 7, end), np.array([0.3, -1.0, 0.5])
    settings = Settings("true_online", trace_decay, 0.2)
    _, weights = follow(walk, w0, settings, step_size=0.2)
    expected = online_lambda_return(walk, w0, 0.2, trace_decay)
    np.testing.assert_allclose(weights, expected, rtol=1e-11)
    _, other = follow(walk, w0, settings._replace(trace="accumulating"), 0.2)
    differ = np.abs(other - weights).max() > 1e-3
    assert differ == (trace_decay > 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [1, 2])
def test_a_trace_ends_with_its_episode(kind, end):
    first, second = episode(4, 3, end), episode(5, 2, end=0)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    w, settings = [0.3, -1.0, 0.5], Settings(kind, 0.9, 0.1)
    directions, _ = follow(both, w, settings)
    alone, _ = follow(second, w, settings)
    np.testing.assert_allclose(directions[3:], alone, rtol=1e-14)


def test_a_truncated_transition_bootstraps():
    settings = Settings("accumulating", 0.9, 0.1)
    cut, done = (steps(np.eye(2), [1.0], 0.5, [end]) for end in (2, 1))
    w = [0.0, 4.0]
    assert follow(cut, w, settings)[0].tolist() == [[-3.0, 0.0]]  # 1 + 0.5 * 4
    assert follow(done, w, settings)[0].tolist() == [[-1.0, 0.0]]


def test_an_unknown_trace_is_refused():
    walk = steps(np.eye(2), [1.0], 0.5)
    with pytest.raises(ValueError, match=r"no trace 'dutch'"):
        follow(walk, [0.0, 0.0], Settings("dutch", 0.9, 0.1))


# ------------------------------------------------------------------- lambda-returns


def test_lambda_returns_by_hand():
    r_t, discount_t = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.5, 0.0])
    v_t = jnp.array([8.0, 4.0, 9.0])
    # 3; 2 + 0.5 (0.75 * 4 + 0.25 * 3) = 3.875; 1 + 0.5 (0.75 * 8 + 0.25 * 3.875)
    returns = traces.lambda_returns(r_t, discount_t, v_t, 0.25)
    assert returns.tolist() == [4.484375, 3.875, 3.0]
    td = traces.lambda_returns(r_t, discount_t, v_t, 0.0)
    assert td.tolist() == [5.0, 4.0, 3.0]


@pytest.mark.usefixtures("unchecked")
def test_lambda_returns_refuse_other_shapes():
    one = jnp.ones(2)
    with pytest.raises(ValueError, match=r"expected one shape \[T\]"):
        traces.lambda_returns(one, one, jnp.ones(3), 0.5)
    with pytest.raises(ValueError, match=r"expected one shape \[T\]"):
        traces.lambda_returns(one[None], one[None], one[None], 0.5)


# --------------------------------------------------------------- transitions of n steps


def naive(walk, t, n):
    """Reward, discount, ratio and last index of the n-step return from t."""
    reward, discount, rho = 0.0, 1.0, 1.0
    for k in range(t, min(t + n, len(walk.r_t))):
        reward += discount * float(walk.r_t[k])
        discount *= float(walk.discount_t[k])
        rho *= float(walk.rho[k])
        if walk.terminated[k] or walk.truncated[k]:
            break
    return reward, discount, rho, k


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 20])
def test_n_step_transitions_are_the_sums_that_they_stand_for(n):
    rng = np.random.default_rng(6)
    ended = [0, 0, 0, 1, 0, 0, 2, 1, 0, 0, 0]
    rho = rng.uniform(0, 2, 11)
    walk = steps(rng.normal(size=(12, 2)), rng.normal(size=11), 0.9, ended, rho)
    made = traces.n_step_transitions(walk, n)
    for t in range(11):
        reward, discount, ratio, last = naive(walk, t, n)
        found = [made.r_t[t], made.discount_t[t], made.rho[t]]
        np.testing.assert_allclose(found, [reward, discount, ratio], rtol=1e-12)
        np.testing.assert_array_equal(made.s_tm1[t], walk.s_tm1[t])
        np.testing.assert_array_equal(made.s_t[t], walk.s_t[last])
        assert made.terminated[t] == walk.terminated[last]
        assert made.truncated[t] == walk.truncated[last]


def test_one_step_changes_nothing():
    walk = episode(7, 4, end=1)
    assert traces.n_step_transitions(walk, 1) is walk


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="n=0: expected at least 1"):
        traces.n_step_transitions(episode(7, 4, end=1), 0)


@pytest.mark.slow
def test_as_many_steps_as_the_episode_has_are_monte_carlo():
    walk = episode(8, 5, end=1)
    made = traces.n_step_transitions(walk, 5)
    returns = traces.lambda_returns(walk.r_t, walk.discount_t, jnp.ones(5), 1.0)
    np.testing.assert_allclose(made.r_t, returns, rtol=1e-12)
    assert made.discount_t.tolist() == [0.0] * 5


@pytest.mark.slow
def test_a_cut_off_episode_bootstraps_from_its_end():
    walk = steps(np.eye(4), [1.0, 1.0, 1.0], 0.5, ended=[0, 0, 2])
    made = traces.n_step_transitions(walk, 10)
    assert made.r_t.tolist() == [1.75, 1.5, 1.0]
    assert made.discount_t.tolist() == [0.125, 0.25, 0.5]
    assert made.s_t.tolist() == [[0.0, 0.0, 0.0, 1.0]] * 3
