"""Policy gradients by hand, against exact expectations, and through an update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import multivariate_normal, norm

from rl_grads.agents import policy_gradient
from rl_grads.agents.networks import linear, mlp
from rl_grads.agents.policy_gradient import Trajectories
from rl_grads.agents.schema import MLP, Linear

KEY = jax.random.key(0)
SAMPLES = 100_000
STD = 0.5


def line(weight):
    """A policy whose mean is `weight * obs`, with standard deviation `STD`."""
    policy = policy_gradient.gaussian(
        linear(Linear(initial_weights=(weight,)), 1), float(np.log(STD))
    )
    return policy, policy.init(KEY, jnp.ones(1))


def nonlinear():
    policy = policy_gradient.gaussian(mlp(MLP(hidden=(4,), activation="tanh"), 2))
    return policy, policy.init(KEY, jnp.ones(3))


def fan(policy, params, key, count, horizon, size):
    """Trajectories with random observations and rewards, and the policy's actions."""
    keys = jax.random.split(key, 3)
    obs = jax.random.normal(keys[0], (count, horizon, size))
    noise = jax.random.normal(keys[1], (count, horizon, 2))

    @jax.jit
    def draw(params, obs, noise):
        action = policy.act(params, obs, noise)
        return action, policy.log_prob(params, obs, action)

    each = jax.vmap(jax.vmap(draw, (None, 0, 0)), (None, 0, 0))
    action, log_prob = each(params, obs, noise)
    return Trajectories(
        s_tm1=obs,
        a_tm1=action,
        r_t=jax.random.normal(keys[2], (count, horizon)),
        alive=jnp.ones((count, horizon)),
        log_prob=log_prob,
    )


# ------------------------------------------------------------------------------- policy


def test_log_probabilities_are_those_of_the_normal_distribution():
    policy, params = nonlinear()
    params["log_std"] = jnp.array([0.3, -0.7])
    obs, action = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.4, 1.5])
    mean = policy.act(params, obs, jnp.zeros(2))
    cov = jnp.diag(jnp.exp(2 * params["log_std"]))
    expected = multivariate_normal.logpdf(action, mean, cov)
    found = policy.log_prob(params, obs, action)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_noise_is_scaled_by_the_standard_deviation():
    policy, params = line(2.0)
    found = policy.act(params, jnp.array([3.0]), jnp.array([-4.0]))
    assert found.tolist() == [6.0 - 4 * STD]


# ------------------------------------------------------------------------- trajectories


def by_hand():
    """Two trajectories, the second of which ends after two of three steps."""
    alive = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    return Trajectories(
        s_tm1=jnp.array([[[0.0], [1.0], [2.0]], [[0.0], [-1.0], [-2.0]]]),
        a_tm1=jnp.ones((2, 3, 1)),
        r_t=jnp.array([[1.0, 2.0, 4.0], [3.0, 8.0, 0.0]]),
        alive=alive,
        log_prob=jnp.zeros((2, 3)),
    )


def test_rewards_to_go_by_hand():
    found = policy_gradient.rewards_to_go(by_hand(), 0.5)
    assert found.tolist() == [[3.0, 4.0, 4.0], [7.0, 8.0, 0.0]]
    assert policy_gradient.returns(by_hand()).tolist() == [7.0, 11.0]


def test_advantages_by_hand():
    found = policy_gradient.advantages(by_hand(), 0.5, lambda seen, to_go: 1.0)
    assert found.tolist() == [[2.0, 3.0, 3.0], [6.0, 7.0, 0.0]]
    again = policy_gradient.normalised(found, by_hand().alive)
    mean, std = 21 / 5, np.sqrt((2.2**2 + 2 * 1.2**2 + 1.8**2 + 2.8**2) / 5)
    np.testing.assert_allclose(again[0], (np.array([2, 3, 3]) - mean) / std, rtol=1e-6)
    assert float(again[1, 2]) == 0.0


def test_equal_advantages_have_no_weight():
    found = policy_gradient.normalised(jnp.full((2, 3), 5.0), by_hand().alive)
    assert found.tolist() == [[0.0] * 3] * 2


def test_the_baseline_fits_what_is_linear_in_its_features(double_precision):
    policy, params = nonlinear()
    seen = fan(policy, params, KEY, 20, 10, 3)
    x, y, _ = jnp.moveaxis(seen.s_tm1, -1, 0)
    time = jnp.arange(10) / 10
    to_go = 2 * x - y**2 + 0.5 + time - 3 * time**3
    # What comes after an end must not matter.
    alive = seen.alive.at[3, 5:].set(0.0)
    spoilt = to_go.at[3, 5:].set(1e6)
    found = policy_gradient.linear_baseline(seen._replace(alive=alive), spoilt)
    np.testing.assert_allclose(found, to_go, atol=1e-2)


# ---------------------------------------------------------------------- expected slopes


def bandit(baseline):
    """Gradients and curvatures `[S, 2]` of single steps paid `-(a - 1)^2`."""
    policy, params = line(0.2)
    network = params["mean"]["w"][0, 0]

    def unravel(point):
        return {"mean": {"w": point[:1, None]}, "log_std": point[1:]}

    def draw(key):
        obs = jnp.ones(1)
        action = policy.act(params, obs, jax.random.normal(key, (1,)))
        return Trajectories(
            s_tm1=obs[None, None],
            a_tm1=action[None, None],
            r_t=-jnp.square(action - 1)[None],
            alive=jnp.ones((1, 1)),
            log_prob=policy.log_prob(params, obs, action)[None, None],
        )

    def one(key):
        seen = draw(key)
        weights = policy_gradient.advantages(seen, 1.0, lambda *_: baseline)

        def at(point):
            return policy_gradient.loss(policy, unravel(point), seen, weights)

        point = jnp.stack([network, params["log_std"][0]])
        return jax.grad(at)(point), jax.hessian(at)(point)

    return jax.jit(jax.vmap(one))(jax.random.split(KEY, SAMPLES))


def distance(found, exact):
    """Of a mean from its expectation, in standard errors."""
    found = np.asarray(found, float)
    error = found.std(0) / np.sqrt(len(found))
    return np.abs(found.mean(0) - exact) / error


# Expected reward -((mean - 1)^2 + std^2), in mean and log of std.
SLOPE = np.array([2 * (0.2 - 1), 2 * STD**2])
CURVATURE = np.array([[2.0, 0.0], [0.0, 4 * STD**2]])


@pytest.mark.parametrize("baseline", [0.0, -0.89, 2.0])
def test_the_gradient_is_exact_in_expectation_whatever_the_baseline(baseline):
    slope, curvature = bandit(baseline)
    assert distance(slope, SLOPE).max() < 4
    assert distance(curvature, CURVATURE).max() < 4


def test_a_good_baseline_has_less_variance():
    plain, better = bandit(0.0)[0], bandit(-0.89)[0]
    assert float(better[:, 0].var()) < 0.8 * float(plain[:, 0].var())


def test_the_logarithm_alone_has_another_second_derivative():
    """Why the loss is made of ratios: `-E[r grad^2 log p]` is not the curvature."""
    noise = jax.random.normal(KEY, (SAMPLES,))
    action = 0.2 + STD * noise
    reward = -jnp.square(action - 1)

    def log_form(mean, a, r):
        return -norm.logpdf(a, mean, STD) * r

    each = jax.vmap(jax.grad(jax.grad(log_form)), (None, 0, 0))
    found = each(0.2, action, reward)
    assert distance(found[:, None], np.array([2.0])).max() > 50


def test_later_rewards_count(double_precision):
    """A walk `x + a` of two steps paid `-x^2`, against its exact moments."""
    policy, params = line(-0.3)

    def walk(key):
        noise = jax.random.normal(key, (2, 1))
        first = policy.act(params, jnp.ones(1), noise[0])
        middle = 1 + first
        second = policy.act(params, middle, noise[1])
        obs, action = jnp.stack([jnp.ones(1), middle]), jnp.stack([first, second])
        return Trajectories(
            s_tm1=obs,
            a_tm1=action,
            r_t=-jnp.square(jnp.stack([middle, middle + second]))[:, 0],
            alive=jnp.ones(2),
            log_prob=jax.vmap(policy.log_prob, (None, 0, 0))(params, obs, action),
        )

    def slope(key):
        seen = jax.tree.map(lambda x: x[None], walk(key))
        weights = policy_gradient.rewards_to_go(seen, 1.0)
        found = jax.grad(policy_gradient.loss, 1)(policy, params, seen, weights)
        return jnp.stack([found["mean"]["w"][0, 0], found["log_std"][0]])

    def expected(point):
        weight, log_std = point
        once = (1 + weight) ** 2 + jnp.exp(2 * log_std)
        return (once + (1 + weight) ** 2 * once + jnp.exp(2 * log_std)) / 2

    found = jax.jit(jax.vmap(slope))(jax.random.split(KEY, SAMPLES))
    exact = jax.grad(expected)(jnp.array([-0.3, np.log(STD)]))
    assert distance(found, np.asarray(exact)).max() < 4


# ------------------------------------------------------------------------------- ratios


def test_the_value_is_the_mean_weight_and_steps_after_the_end_say_nothing():
    policy, params = nonlinear()
    seen = fan(policy, params, KEY, 4, 5, 3)
    weights = jax.random.normal(jax.random.key(1), (4, 5))
    alive = seen.alive.at[:, 3:].set(0.0)
    seen = seen._replace(alive=alive, log_prob=seen.log_prob.at[:, 3:].set(-1e9))
    program = jax.jit(
        jax.value_and_grad(lambda *args: policy_gradient.loss(policy, *args))
    )
    value, slope = program(params, seen, weights)
    assert float(value) == pytest.approx(-float(weights[:, :3].mean()), rel=1e-5)
    short = jax.tree.map(lambda x: x[:, :3], seen)
    _, expected = program(params, short, weights[:, :3])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        slope,
        expected,
    )


def test_the_derivative_through_an_update_is_finite_differences(double_precision):
    policy, params = nonlinear()
    one, two = (fan(policy, params, jax.random.key(k), 6, 4, 3) for k in (1, 2))

    @jax.jit
    def after(params):
        slope = jax.grad(policy_gradient.loss, 1)(policy, params, one, one.r_t)
        moved = optax.tree.add_scale(params, -0.5, slope)
        return policy_gradient.loss(policy, moved, two, two.r_t)

    keys = iter(jax.random.split(jax.random.key(3), 10))
    way = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), params)
    h = 1e-5
    ends = [after(optax.tree.add_scale(params, s * h, way)) for s in (1, -1)]
    expected = float(ends[0] - ends[1]) / (2 * h)
    assert abs(expected) > 1e-2
    found = optax.tree.vdot(jax.jit(jax.grad(after))(params), way)
    assert float(found) == pytest.approx(expected, rel=1e-7)


def test_weights_have_the_shape_of_the_steps():
    policy, params = nonlinear()
    seen = fan(policy, params, KEY, 4, 5, 3)
    with pytest.raises(ValueError, match=r"weights: expected the shape \(4, 5\)"):
        policy_gradient.loss(policy, params, seen, jnp.ones(4))


def test_the_baseline_wants_vectors():
    policy, params = nonlinear()
    seen = fan(policy, params, KEY, 4, 5, 3)
    seen = seen._replace(s_tm1=seen.s_tm1[..., None])
    with pytest.raises(ValueError, match=r"observations \[N, T, D\]"):
        policy_gradient.linear_baseline(seen, seen.r_t)
