"""Probe environments: each needs one more thing of an agent than the one before.

All of them are one registered environment, with the probe's number among its
parameters: a sweep over that number trains every probe in one compiled program.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads import register
from rl_grads.agents import networks
from rl_grads.agents.schema import MLP, BehaviourPolicy, Prediction, QLearning, Target
from rl_grads.envs.environment import Environment, Step
from rl_grads.gradients.schema import Adam
from rl_grads.replay.schema import Replay

PROBES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
DISCOUNT, EPSILON = 0.9, 0.2
LOSSES = ("q_learning", "double_q_learning", "sarsa", "expected_sarsa")
TARGETS = {"online": Target(), "period": Target(period=10), "polyak": Target(None, 0.1)}


def probe(config):
    """Two observations, two actions, one or two steps.

    1. One step, reward 1: learn a value.
    2. One step, reward -1 or 1 by the observation: tell observations apart.
    3. Two steps, reward 1 at the end: discount.
    4. One step, reward 1 for action 1: act.
    5. One step, reward 1 for the action that is the observation: act by observation.
    6. Two steps, reward 1 for action 1 in the second: the policy that is evaluated.
    """
    number = config.params["number"]
    random_start = (number == 2) | (number == 5)
    two_steps = (number == 3) | (number == 6)

    def start(key):
        return jnp.where(random_start, jax.random.bernoulli(key), False).astype(int)

    def reset(key):
        state = start(key)
        return state, jax.nn.one_hot(state, 2)

    def step(key, state, action):
        by_action = (action == 1).astype(float)
        match = (action == state).astype(float)
        rewards = [1.0, 2.0 * state - 1, 1.0 * state, by_action, match]
        reward = jnp.select([number == k + 1 for k in range(5)], rewards, by_action)
        terminated = ~two_steps | (state == 1)
        reward = jnp.where(two_steps & (state == 0), 0.0, reward)
        after = jnp.where(terminated, start(key), 1)
        # A last observation that nobody may bootstrap from.
        final_obs = jnp.where(terminated, 100.0, jax.nn.one_hot(1, 2))
        obs = jax.nn.one_hot(after, 2)
        return after, Step(obs, reward, terminated, jnp.bool_(False), final_obs)

    observation = jax.ShapeDtypeStruct((2,), jnp.result_type(float))
    return Environment("probe", reset, step, observation, num_actions=2, redraws=True)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(register._COMPONENTS["env"], "probe", probe)


def base_config(agent, **changes):
    config = rg.Config(
        agent=agent,
        network=MLP(hidden=(16,)),
        optimizer=Adam(learning_rate=0.02, learning_rate_decay=0.0),
        replay=Replay(capacity=2000),
    )
    settings = {
        "env.id": "probe",
        "env.params": {"number": 1.0},
        "training.total_steps": 2000,
        "training.batch_size": 32,
        "training.warmup_steps": 32,
        "evaluation.interval": None,
        "evaluation.episodes": 20,
        "tracking.interval": 2000,
    }
    return rg.replace(config, settings | changes)


def learn(config):
    """Train on every probe; values `[probe, observation, output]` and the result."""
    sweep = {"env.params.number": PROBES}
    result = rg.train(members=rg.population(config, seeds=[3], sweep=sweep))
    network = networks.make(config, 2 if isinstance(config.agent, QLearning) else 1)
    values = [
        [network.apply(params, obs) for obs in jnp.eye(2)] for params in result.params
    ]
    return np.array(values), result


def expected_q(loss):
    """Exact action values of every probe; nan where nothing can be learned."""
    on_policy = 1 - EPSILON / 2 if "sarsa" in loss else 1.0
    never = [np.nan, np.nan]
    return np.array(
        [
            [[1, 1], never],
            [[-1, -1], [1, 1]],
            [[DISCOUNT, DISCOUNT], [1, 1]],
            [[0, 1], never],
            [[1, 0], [0, 1]],
            [[DISCOUNT * on_policy] * 2, [0, 1]],
        ]
    )


def assert_learned(values, exact, tolerance):
    known = ~np.isnan(exact)
    np.testing.assert_allclose(values[known], exact[known], atol=tolerance)


@pytest.mark.parametrize(
    ("loss", "target"),
    list(itertools.product(LOSSES, ("online", "period"))),
)
def test_control(loss, target):
    policy = BehaviourPolicy(epsilon=EPSILON)
    agent = QLearning(loss, DISCOUNT, TARGETS[target], policy)
    values, result = learn(base_config(agent))
    assert_learned(values, expected_q(loss), 0.05)
    returns = result.final()["evaluation/return"]
    np.testing.assert_array_equal(returns[[0, 2, 3, 4, 5]], 1.0)
    assert abs(returns[1]) < 1


VALUES = np.array(
    [
        [1, np.nan],
        [-1, 1],
        [DISCOUNT, 1],
        [0.5, np.nan],
        [0.5, 0.5],
        [DISCOUNT / 2, 0.5],
    ]
)


def test_prediction_follows_the_uniform_policy():
    target = TARGETS["polyak"]
    values, _ = learn(base_config(Prediction(discount=DISCOUNT, target=target)))
    assert_learned(values[..., 0], VALUES, 0.06)


def test_prediction_without_a_memory():
    changes = {"replay": None, "training.num_envs": 8, "training.total_steps": 8000}
    values, _ = learn(base_config(Prediction(discount=DISCOUNT), **changes))
    assert_learned(values[..., 0], VALUES, 0.06)


@pytest.mark.parametrize("td_gradient", ["full", "interpolate", "gtd2", "tdc", "tdrc"])
def test_prediction_by_other_gradients(td_gradient):
    agent = Prediction(discount=DISCOUNT, td_gradient=td_gradient)
    values, _ = learn(base_config(agent))
    assert_learned(values[..., 0], VALUES, 0.06)


@pytest.mark.parametrize("td_gradient", ["residual", "emphatic"])
def test_prediction_by_other_gradients_without_a_memory(td_gradient):
    changes = {"replay": None, "training.num_envs": 8, "training.total_steps": 8000}
    agent = Prediction(discount=DISCOUNT, td_gradient=td_gradient)
    values, _ = learn(base_config(agent, **changes))
    assert_learned(values[..., 0], VALUES, 0.06)


@pytest.mark.parametrize("td_gradient", ["full", "interpolate", "qrc"])
def test_control_by_other_gradients(td_gradient):
    policy = BehaviourPolicy(epsilon=EPSILON)
    agent = QLearning("q_learning", DISCOUNT, Target(), policy, td_gradient)
    values, _ = learn(base_config(agent))
    assert_learned(values, expected_q("q_learning"), 0.05)
