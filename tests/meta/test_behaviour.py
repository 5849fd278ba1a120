"""Behaviour matching against the derivative of the mean over every possible action."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.schema import BehaviourPolicy, QLearning
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

EPSILON = "agent.behaviour_policy.epsilon"
TEMPERATURE = "agent.behaviour_policy.temperature"
# A bandit of one state: values of its three actions, and rewards that never vary.
Q = np.array([0.0, 2.0, 1.0])
REWARD = np.array([1.0, 1.0, 3.0])
RATE = 0.5
COST = np.array([1.0, 10.0, 100.0])  # Of the values after the update.


@pytest.fixture(autouse=True)
def in_double_precision(double_precision):
    return double_precision


def bandit(loss=losses.q_learning, values=Q):
    network = Network(
        init=lambda key, obs: jnp.array(values),
        apply=lambda params, obs: params * obs[0],
    )
    return rg.agents.q_learning(network=network, loss=loss)


def setting(**policy):
    return Config(
        agent=QLearning(behaviour_policy=BehaviourPolicy(**policy)),
        optimizer=SGD(learning_rate=RATE),
    )


def taken(actions, terminated=True):
    """Transitions of the bandit, `[..., B]`."""
    actions = jnp.asarray(actions)
    ones = jnp.ones((*actions.shape, 1))
    return Transition(
        s_tm1=ones,
        a_tm1=actions,
        r_t=jnp.array(REWARD)[actions],
        s_t=ones,
        terminated=jnp.full(actions.shape, terminated),
        truncated=jnp.zeros(actions.shape, bool),
        discount_t=jnp.full(actions.shape, 0.0 if terminated else 0.9),
        rho=jnp.ones(actions.shape),
    )


def factors(config, learn, actions, agent=None, terminated=True):
    """The factors and their derivatives in a number, `[B]`."""
    agent = agent or bandit()
    state = agent.init(jax.random.key(0), jnp.ones(1), config)
    matching = rg.meta.behaviour_matching(agent)

    def found(x):
        batch = taken(actions, terminated)
        return matching(state, batch, rg.replace(config, {learn: x}))

    at = jnp.asarray(rg.config.get(config, learn), float)
    return found(at), jax.jacobian(found)(at)


# ----------------------------------------------------------------------------- factors


def test_epsilon_greedy():
    found, slope = factors(setting(epsilon=0.3), EPSILON, [0, 1, 2])
    assert found.tolist() == [1.0] * 3
    # 0.3 / 3 each, and 0.7 for action 1: d log p = (1/3) / 0.1 or (1/3 - 1) / 0.8
    np.testing.assert_allclose(slope, [1 / 0.3, -1 / 1.2, 1 / 0.3], 1e-12)


def test_ties_share():
    agent = bandit(values=np.array([2.0, 2.0, 1.0]))
    found, slope = factors(setting(epsilon=0.3), EPSILON, [0, 1, 2], agent)
    assert found.tolist() == [1.0] * 3
    # 0.1 + 0.7 / 2 for the best two: (1/3 - 1/2) / 0.45
    np.testing.assert_allclose(slope, [-1 / 2.7, -1 / 2.7, 1 / 0.3], 1e-12)


def test_temperature():
    config = setting(name="softmax", temperature=2.0)
    found, slope = factors(config, TEMPERATURE, [0, 1, 2])
    assert found.tolist() == [1.0] * 3
    p = np.exp(Q / 2) / np.exp(Q / 2).sum()
    np.testing.assert_allclose(slope, -(Q - p @ Q) / 2.0**2, 1e-12)


def test_an_action_that_the_policy_never_takes_has_no_derivative():
    config = setting(name="softmax", temperature=1e-3)
    found, slope = factors(config, TEMPERATURE, [0, 1, 2])
    assert found.tolist() == [1.0] * 3
    assert slope.tolist() == [0.0] * 3


def test_a_uniform_policy_depends_on_nothing():
    found, slope = factors(setting(name="uniform"), EPSILON, [0, 1])
    assert found.tolist() == [1.0] * 2
    assert slope.tolist() == [0.0] * 2


def test_the_parameters_are_held_constant():
    agent, config = bandit(), setting(name="softmax")
    state = agent.init(jax.random.key(0), jnp.ones(1), config)
    matching = rg.meta.behaviour_matching(agent)

    def total(params):
        moved = state._replace(params=params)
        return jnp.sum(matching(moved, taken([0, 1]), config))

    assert jax.grad(total)(state.params).tolist() == [0.0] * 3


# ------------------------------------------------------------------ the mean over draws


def linear(params, target):
    return params @ jnp.array(COST)


def quadratic(params, target):
    return 0.5 * jnp.sum(jnp.array(COST) * jnp.square(params - target))


def over_all_draws(outer_loss, batch_size):
    """The mean meta-gradient in epsilon, and central differences of the mean loss."""
    agent, config, h = bandit(), setting(epsilon=0.3), 1e-5
    state = agent.init(jax.random.key(0), jnp.ones(1), config)
    matching = rg.meta.behaviour_matching(agent)
    compute = rg.meta.gradient(
        agent.update,
        outer_loss,
        (EPSILON,),
        steps=1,
        weigh=lambda state, batch, config: matching(state, batch.transitions, config),
    )
    draws = np.array(list(itertools.product(range(3), repeat=batch_size)))
    each = jax.vmap(lambda batch: compute(config, state, batch, jnp.zeros(3)))
    found = jax.jit(each)(taken(draws[:, None]))

    def chances(epsilon):
        p = epsilon / 3 + (1 - epsilon) * (np.arange(3) == 1)
        return p[draws].prod(-1)

    losses, slopes = map(np.asarray, (found.loss, found.gradient[EPSILON]))
    expected = (chances(0.3 + h) - chances(0.3 - h)) @ losses / (2 * h)
    return chances(0.3) @ slopes, expected


@pytest.mark.parametrize("batch_size", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_over_all_actions_it_is_the_derivative_of_the_mean(batch_size):
    found, expected = over_all_draws(linear, batch_size)
    # Steps (0.5, -0.5, 1) times the cost, and d p = (1/3, -2/3, 1/3).
    assert found == pytest.approx((0.5 + 2 * 5.0 + 100.0) / 3, rel=1e-9)
    assert expected == pytest.approx(found, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_curved_outer_loss_adds_a_bias_of_its_noise(batch_size):
    """Half the curvature times d E[step^2] / B: noise of a batch is no loss here."""
    found, expected = over_all_draws(quadratic, batch_size)
    step, d_p = RATE * (REWARD - Q), np.array([1, -2, 1]) / 3
    bias = 0.5 * np.sum(d_p * COST * step**2) / batch_size
    assert found - expected == pytest.approx(bias, rel=1e-6)


# ------------------------------------------------------------------------- next actions


def test_sarsa_counts_its_next_action_too():
    agent, config = bandit(losses.sarsa), setting(epsilon=0.3)
    actions = [0, 1, 2, 1]
    _, once = factors(config, EPSILON, actions, terminated=False)
    _, twice = factors(config, EPSILON, actions, agent, terminated=False)
    state = agent.init(jax.random.key(0), jnp.ones(1), config)
    assert agent.prepare is not None
    a_t = agent.prepare(state, taken(actions, False), config).a_t
    expected = np.where(np.asarray(a_t) == 1, -1 / 1.2, 1 / 0.3)
    np.testing.assert_allclose(twice - once, expected, 1e-12)


@pytest.mark.slow
def test_sarsa_is_expected_sarsa_in_the_mean():
    """Where the target's action is summed over, its derivative is exact."""
    config, count = setting(epsilon=0.3), 4000
    found = {}
    for loss in (losses.sarsa, losses.expected_sarsa):
        agent = bandit(loss)
        state = agent.init(jax.random.key(0), jnp.ones(1), config)
        matching = rg.meta.behaviour_matching(agent)

        def slope(key, agent=agent, state=state, matching=matching):
            def after(epsilon):
                changed = rg.replace(config, {EPSILON: epsilon})
                batch = taken([0, 1, 2], terminated=False)
                now = state._replace(key=key)
                weights = matching(now, batch, changed)
                return linear(agent.update(now, batch, weights, changed)[0].params, 0)

            return jax.grad(after)(0.3)

        keys = jax.random.split(jax.random.key(1), count)
        found[loss] = np.asarray(jax.jit(jax.vmap(slope))(keys))
    exact = found[losses.expected_sarsa]
    np.testing.assert_allclose(exact, exact[0], 1e-12)
    drawn = found[losses.sarsa]
    error = drawn.std() / count**0.5
    assert abs(drawn.mean() - exact[0]) < 4 * error
    assert 4 * error < 0.1 * abs(exact[0])


# ----------------------------------------------------------------------------- refusals


def test_an_agent_without_a_policy_is_refused():
    network = Network(init=lambda key, obs: jnp.zeros(1), apply=lambda p, obs: p)
    with pytest.raises(ConfigError, match="expected an agent with a behaviour policy"):
        rg.meta.behaviour_matching(rg.agents.prediction(network=network))


def test_without_weights_that_know_of_it_the_library_refuses():
    agent, config = bandit(), setting()
    state = agent.init(jax.random.key(0), jnp.ones(1), config)
    compute = rg.meta.gradient(agent.update, linear, (EPSILON,), 1)
    with pytest.raises(ConfigError) as caught:
        compute(config, state, taken([[0, 1]]), jnp.zeros(3))
    assert str(caught.value) == (
        f"meta.learn={EPSILON}: expected a number that acts through the update; it "
        "chooses actions, and what is drawn has no derivative without "
        "meta.sampling=[behaviour_matching] (in the library: weigh)"
    )
