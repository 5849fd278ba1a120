"""Action-value control, on numbers that can be followed by hand."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_grads import agents
from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.pages.q_learning import from_config
from rl_grads.agents.schema import BehaviourPolicy, Linear, QLearning, Target
from rl_grads.gradients.schema import SGD
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

KEY = jax.random.key(0)
START = np.array([[1.0, 0.0], [0.0, 2.0]])  # q(s) = (s_0, 2 s_1)
TABLE = Network(
    init=lambda key, obs: jnp.array(START, jnp.float32),
    apply=lambda params, obs: params @ obs,
)


def setting(**agent) -> Config:
    return Config(agent=QLearning(**agent), optimizer=SGD(learning_rate=0.5))


def step(
    s_tm1=(1.0, 1.0), a_tm1=0, r_t=1.0, s_t=(0.0, 1.0), discount_t=0.5
) -> Transition:
    """A batch of one transition."""
    return Transition(
        s_tm1=jnp.array([s_tm1]),
        a_tm1=jnp.array([a_tm1]),
        r_t=jnp.array([r_t]),
        s_t=jnp.array([s_t]),
        terminated=jnp.array([discount_t == 0.0]),
        truncated=jnp.array([False]),
        discount_t=jnp.array([discount_t]),
        rho=jnp.array([1.0]),
    )


def updated(config: Config, batch: Transition, loss=losses.q_learning):
    agent = agents.q_learning(network=TABLE, loss=loss)
    state = agent.init(KEY, jnp.ones(2), config)
    return jax.jit(agent.update)(state, batch, None, config)


@pytest.mark.parametrize(
    ("batch", "delta", "expected"),
    [
        # q(s') = (0, 2): 1 + 0.5 * 2 - 1, and w_0 += 0.5 * delta * s
        (step(), 1.0, [[1.5, 0.5], [0.0, 2.0]]),
        (step(a_tm1=1), 0.0, START.tolist()),  # 1 + 0.5 * 2 - 2
        (step(discount_t=0.0, r_t=3.0), 2.0, [[2.0, 1.0], [0.0, 2.0]]),
        (step(a_tm1=1, r_t=3.0), 2.0, [[1.0, 0.0], [1.0, 3.0]]),
    ],
)
def test_one_update(batch, delta, expected):
    state, report = updated(setting(), batch)
    assert report.signals.td_error.tolist() == [delta]
    assert state.params.tolist() == expected


def test_double_q_learning_selects_online_and_evaluates_with_the_target():
    agent = agents.q_learning(network=TABLE, loss=losses.double_q_learning)
    config = setting(target=Target(period=100))
    state = agent.init(KEY, jnp.ones(2), config)
    state = state._replace(target_params=jnp.array([[4.0, 8.0], [1.0, 1.0]]))
    _, report = agent.update(state, step(), None, config)
    # Online picks action 1 in s'; the target gives it 1: 1 + 0.5 - 1.
    assert report.signals.td_error.tolist() == [0.5]


def test_sarsa_draws_the_next_action_from_the_behaviour_policy():
    batch = jax.tree.map(lambda x: jnp.repeat(x, 4000, 0), step())
    policy = BehaviourPolicy(epsilon=0.5)
    _, report = updated(setting(behaviour_policy=policy), batch, losses.sarsa)
    # q(s') = (0, 2), so delta is 0 for action 0 (1/4) and 1 for action 1 (3/4).
    counts = np.bincount(np.asarray(report.signals.td_error).astype(int))
    assert counts.sum() == 4000
    assert stats.chisquare(counts, [1000, 3000]).pvalue > 1e-3


def test_sarsa_draws_anew_at_each_update_and_for_each_member():
    batch = jax.tree.map(lambda x: jnp.repeat(x, 64, 0), step())
    config = setting(behaviour_policy=BehaviourPolicy("uniform"))
    agent = agents.q_learning(network=TABLE, loss=losses.sarsa)
    drawn = []
    for seed in (0, 1):
        state = agent.init(jax.random.key(seed), jnp.ones(2), config)
        for _ in range(2):
            state = state._replace(params=jnp.array(START, jnp.float32))
            state, report = agent.update(state, batch, None, config)
            drawn.append(tuple(report.signals.td_error.tolist()))
    assert len(set(drawn)) == 4


def test_a_loss_that_wraps_sarsa_gets_its_next_action():
    wrapped = functools.partial(losses.sarsa)
    greedy = setting(behaviour_policy=BehaviourPolicy(epsilon=0.0))
    _, report = updated(greedy, step(), wrapped)
    assert report.signals.td_error.tolist() == [1.0]


def test_expected_sarsa():
    policy = BehaviourPolicy(epsilon=0.5)
    config = setting(behaviour_policy=policy)
    _, report = updated(config, step(), losses.expected_sarsa)
    # 1 + 0.5 * (1/4 * 0 + 3/4 * 2) - 1
    assert report.signals.td_error.tolist() == [0.75]


def test_acting():
    agent, config = agents.q_learning(network=TABLE), setting()
    config.agent.behaviour_policy = BehaviourPolicy(epsilon=0.5)
    state = agent.init(KEY, jnp.ones(2), config)
    obs = jnp.array([3.0, 1.0])  # q = (3, 2)
    assert int(agent.greedy(state.params, obs)) == 0
    assert agent.greedy(state.params, obs).dtype == jnp.int32
    assert float(agent.value(state.params, obs)) == 3.0
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = jax.vmap(agent.act, (None, 0, None, None))(state, keys, obs, config)
    assert stats.chisquare(np.bincount(drawn), [3000, 1000]).pvalue > 1e-3


def test_acting_uses_the_online_network():
    agent, config = agents.q_learning(network=TABLE), setting(target=Target(period=9))
    config.agent.behaviour_policy = BehaviourPolicy(epsilon=0.0)
    state = agent.init(KEY, jnp.ones(2), config)
    state = state._replace(target_params=-state.params)
    assert int(agent.act(state, KEY, jnp.array([3.0, 1.0]), config)) == 0


def test_from_config_takes_the_network_and_the_loss_by_name():
    config = Config(
        agent=QLearning(loss="sarsa", behaviour_policy=BehaviourPolicy(epsilon=0.0)),
        network=Linear(initial_value=0.5),
        optimizer=SGD(learning_rate=0.5),
    )
    agent = from_config(config, 2)
    state = agent.init(KEY, jnp.ones(2), config)
    assert state.params["w"].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    _, report = agent.update(state, step(), None, config)
    assert report.signals.td_error.tolist() == [0.25]  # 1 + 0.5 * 0.5 - 1


# ---------------------------------------------------------------------------- imports

ORDERS = """
import sys

ORDERS = [
    "import rl_grads.agents.pages.q_learning as page",
    "from rl_grads.agents.pages.q_learning import q_learning",
    "import rl_grads",
    "import rl_grads.agents",
    "from rl_grads import agents; agents.prediction; agents.q_learning",
    "import importlib; importlib.import_module('rl_grads.agents.pages.q_learning')",
    "from rl_grads import register; register.get('agent', 'q_learning')",
]
for order in ORDERS:
    for name in [n for n in sys.modules if n.partition(".")[0] == "rl_grads"]:
        del sys.modules[name]
    exec(order, {})
    import rl_grads

    for _ in range(2):
        agent = rl_grads.agents.q_learning(network=None)
        assert type(agent).__name__ == "Agent", order
        agent = rl_grads.agents.prediction(network=None)
        assert type(agent).__name__ == "Agent", order
        from rl_grads.agents import prediction, q_learning

        assert callable(prediction) and callable(q_learning), order
print(len(ORDERS))
"""


def test_an_agent_is_a_function_after_any_order_of_imports():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ORDERS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "7"


def test_an_unknown_agent_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'q_lerning'"):
        _ = agents.q_lerning
