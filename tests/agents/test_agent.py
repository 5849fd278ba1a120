"""What value-based agents share: the update, the target network, the metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import agents
from rl_grads.agents.agent import evaluated
from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.schema import Prediction, Target
from rl_grads.config import replace
from rl_grads.gradients.estimators import Estimator, mean_gradient
from rl_grads.gradients.schema import SGD, Gradient, UpdateClip
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

KEY = jax.random.key(0)
ONE = Network(  # A single weight, the value of an observation of one.
    init=lambda key, obs: {"w": jnp.zeros(1)},
    apply=lambda params, obs: params["w"] * obs,
)


def batch(rewards: list[float], discount: float = 0.0) -> Transition:
    size = len(rewards)
    return Transition(
        s_tm1=jnp.ones((size, 1)),
        a_tm1=jnp.zeros(size, jnp.int32),
        r_t=jnp.array(rewards),
        s_t=jnp.ones((size, 1)),
        terminated=jnp.zeros(size, bool),
        truncated=jnp.zeros(size, bool),
        discount_t=jnp.full(size, discount),
        rho=jnp.ones(size),
    )


def setting(period: int | None = None, polyak: float | None = None) -> Config:
    return Config(
        agent=Prediction(target=Target(period, polyak)),
        optimizer=SGD(learning_rate=0.5),
        gradient=Gradient(UpdateClip("element", max_abs=100.0)),
    )


def weights(config: Config, updates: int, rewards: list[float], discount: float):
    """The online and the target weight after each update."""
    agent = agents.prediction(network=ONE)
    state = agent.init(KEY, jnp.ones(1), config)
    found = []
    for _ in range(updates):
        state, _ = agent.update(state, batch(rewards, discount), None, config)
        target = state.target_params
        found.append((float(state.params["w"][0]), target and float(target["w"][0])))
    return found


def test_without_a_target_network_the_online_one_bootstraps():
    # w += 0.5 * (1 + 0.5 * w - w)
    found = weights(setting(), 2, [1.0], 0.5)
    assert found == [(0.5, None), (0.875, None)]


def test_a_target_that_is_copied():
    # The target is 0 for two updates, then 0.75.
    # w += 0.5 * (1 + 0.5 * target - w)
    found = weights(setting(period=2), 4, [1.0], 0.5)
    assert found == [(0.5, 0.0), (0.75, 0.75), (1.0625, 0.75), (1.21875, 1.21875)]


def test_a_target_that_is_averaged():
    # target += 0.25 * (w - target), after the update of w
    found = weights(setting(polyak=0.25), 2, [1.0], 0.5)
    # w: 0.5, then 0.5 + 0.5 * (1 + 0.5 * 0.125 - 0.5)
    assert found == [(0.5, 0.125), (0.78125, 0.2890625)]


@pytest.mark.parametrize(("polyak", "expected"), [(1.0, 0.5), (0.0, 0.0)])
def test_the_edges_of_averaging(polyak, expected):
    assert weights(setting(polyak=polyak), 1, [1.0], 0.5) == [(0.5, expected)]


def test_the_target_starts_as_a_copy():
    state = agents.prediction(network=ONE).init(KEY, jnp.ones(1), setting(period=1))
    assert state.target_params["w"] is not state.params["w"]
    assert state.target_params["w"].tolist() == state.params["w"].tolist()
    bare = agents.prediction(network=ONE).init(KEY, jnp.ones(1), setting())
    assert bare.target_params is None


def test_an_update_leaves_its_argument_alone():
    config, agent = setting(period=2), agents.prediction(network=ONE)
    state = agent.init(KEY, jnp.ones(1), config)
    new, _ = agent.update(state, batch([1.0]), None, config)
    assert (float(state.params["w"][0]), int(state.updates)) == (0.0, 0)
    assert (float(new.params["w"][0]), int(new.updates)) == (0.5, 1)
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_weights_of_examples_reach_the_gradient():
    config, agent = setting(), agents.prediction(network=ONE)
    state = agent.init(KEY, jnp.ones(1), config)
    new, report = agent.update(state, batch([1.0, 3.0]), jnp.array([2.0, 0.5]), config)
    # 0.5 * mean(2 * 1, 0.5 * 3)
    assert float(new.params["w"][0]) == 0.875
    assert report.signals.td_error.tolist() == [1.0, 3.0]


def test_metrics():
    config, agent = setting(), agents.prediction(network=ONE)
    state = agent.init(KEY, jnp.ones(1), config)
    _, report = agent.update(state, batch([1.0, -3.0]), None, config)
    assert {name: float(value) for name, value in report.metrics.items()} == {
        "loss/td_error_abs": 2.0,
        "loss/td_error_square": 5.0,
        "gradient/norm": 1.0,  # |mean(-1, 3)|
        "gradient/semi_full_cosine": 1.0,  # Nothing bootstraps.
        "clip/update/fraction": 0.0,
        "clip/update/norm_before": 1.0,
        "clip/update/norm_after": 1.0,
        "clip/update/angle": 0.0,
    }


def test_extra_signals_of_a_loss_become_metrics():
    def loss(network):
        def one(params, bootstrap_params, transition, config):
            value, signals = losses.td(network)(
                params, bootstrap_params, transition, config
            )
            return value, signals._replace(extra={"reward": transition.r_t})

        return one

    agent, config = agents.prediction(network=ONE, loss=loss), setting()
    state = agent.init(KEY, jnp.ones(1), config)
    _, report = agent.update(state, batch([1.0, 4.0]), None, config)
    assert float(report.metrics["loss/reward"]) == 2.5


def test_the_norm_is_that_before_the_clip():
    config, agent = setting(), agents.prediction(network=ONE)
    config.gradient = Gradient(UpdateClip("element", max_abs=0.5))
    state = agent.init(KEY, jnp.ones(1), config)
    new, report = agent.update(state, batch([8.0]), None, config)
    assert float(report.metrics["gradient/norm"]) == 8.0
    assert float(new.params["w"][0]) == 0.25


def test_an_estimator_gets_a_new_key_at_each_update():
    keys = []

    def update(state, key, about):
        keys.append(jax.random.key_data(key).tolist())
        return mean.update(state, key, about)

    mean, config = mean_gradient(), setting()
    agent = agents.prediction(network=ONE, estimator=Estimator(mean.init, update))
    for seed in (0, 1):
        state = agent.init(jax.random.key(seed), jnp.ones(1), config)
        for _ in range(2):
            state, _ = agent.update(state, batch([1.0]), None, config)
    assert len({tuple(key) for key in keys}) == 4


def test_a_config_can_be_an_argument_of_a_compiled_update():
    config, agent = setting(polyak=0.25), agents.prediction(network=ONE)
    state = agent.init(KEY, jnp.ones(1), config)
    plain, _ = agent.update(state, batch([1.0]), None, config)
    jitted, _ = jax.jit(agent.update)(state, batch([1.0]), None, config)
    np.testing.assert_array_equal(plain.params["w"], jitted.params["w"])
    np.testing.assert_array_equal(plain.target_params["w"], jitted.target_params["w"])


def test_members_are_a_vmap():
    agent = agents.prediction(network=ONE)
    rates = [0.5, 0.25]
    members = [Config(agent=Prediction(), optimizer=SGD(rate)) for rate in rates]
    stacked = jax.tree.map(lambda *x: jnp.array(x), *members)

    def train(config):
        state = agent.init(KEY, jnp.ones(1), config)
        return agent.update(state, batch([1.0]), None, config)[0].params["w"][0]

    assert jax.vmap(train)(stacked).tolist() == rates


def test_an_average_of_the_parameters_follows_them_by_hand():
    config = replace(setting(), {"evaluation.average_window": 0.5})
    agent = agents.prediction(network=ONE)
    state = agent.init(KEY, jnp.ones(1), config)
    assert state.average["w"] is not state.params["w"]
    assert evaluated(state)["w"].tolist() == [0.0]
    found = []
    for _ in range(3):
        state, _ = agent.update(state, batch([1.0], 0.5), None, config)
        found.append((float(state.params["w"][0]), float(evaluated(state)["w"][0])))
    # w as in the first test; over half of the updates iterate i weighs as i: after one
    # update the average is the iterate, and nothing is left of the start.
    first, second, third = 0.5, 0.875, 1.15625
    averages = (first, (first + 2 * second) / 3, (first + 2 * second + 3 * third) / 6)
    np.testing.assert_allclose(
        found, list(zip((first, second, third), averages, strict=True)), rtol=1e-6
    )
    bare = agent.init(KEY, jnp.ones(1), setting())
    assert bare.average is None
    assert evaluated(bare) is bare.params
