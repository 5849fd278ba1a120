"""Value prediction on numbers that can be followed by hand."""

import jax
import jax.numpy as jnp

from rl_grads import agents
from rl_grads.agents.pages.prediction import from_config
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.gradients.schema import SGD
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

KEY = jax.random.key(0)
CONFIG = Config(
    agent=Prediction(),
    network=Linear(initial_weights=(1.0, 2.0)),
    optimizer=SGD(learning_rate=0.5),
)


def batch(rho: float) -> Transition:
    return Transition(
        s_tm1=jnp.array([[1.0, 0.0]]),
        a_tm1=jnp.array([1]),
        r_t=jnp.array([1.0]),
        s_t=jnp.array([[0.0, 1.0]]),
        terminated=jnp.array([False]),
        truncated=jnp.array([False]),
        discount_t=jnp.array([0.5]),
        rho=jnp.array([rho]),
    )


def test_one_update():
    agent = from_config(CONFIG, num_actions=2)
    state = agent.init(KEY, jnp.ones(2), CONFIG)
    new, report = agent.update(state, batch(rho=1.0), None, CONFIG)
    assert report.signals.td_error.tolist() == [1.0]  # 1 + 0.5 * 2 - 1
    assert new.params["w"].tolist() == [[1.5, 2.0]]


def test_rho_scales_the_update():
    agent = from_config(CONFIG, num_actions=2)
    state = agent.init(KEY, jnp.ones(2), CONFIG)
    new, report = agent.update(state, batch(rho=0.5), None, CONFIG)
    assert report.signals.td_error.tolist() == [1.0]
    assert new.params["w"].tolist() == [[1.25, 2.0]]


def test_it_predicts_and_does_not_act():
    agent = from_config(CONFIG, num_actions=2)
    state = agent.init(KEY, jnp.ones(2), CONFIG)
    assert float(agent.value(state.params, jnp.array([3.0, 4.0]))) == 11.0
    assert (agent.act, agent.greedy) == (None, None)
    assert agents.prediction is not from_config
