"""TD(lambda) as an agent: traces across batches and environments, through training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.pages.td_lambda import from_config
from rl_grads.agents.schema import Linear, TDLambda
from rl_grads.gradients.schema import SGD
from rl_grads.td.transition import Transition
from rl_grads.training.engine import Given, parts
from rl_grads.training.loop import init
from rl_grads.training.population import split
from rl_grads.training.restart import restart

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compiler")]


def config(trace="accumulating", trace_decay=0.5, changes=None):
    base = rg.Config(
        agent=TDLambda(trace=trace, trace_decay=trace_decay, discount=0.5),
        network=Linear(initial_weights=(1.0, 2.0)),
        optimizer=SGD(learning_rate=0.5),
        replay=None,
    )
    return rg.replace(base, changes or {})


def step(s_tm1, s_t, reward, terminated=False, truncated=False):
    """One transition of the two states, as a batch of one."""
    return Transition(
        s_tm1=jnp.eye(2)[s_tm1][None],
        a_tm1=jnp.zeros(1, jnp.int32),
        r_t=jnp.array([float(reward)]),
        s_t=jnp.eye(2)[s_t][None],
        terminated=jnp.array([terminated]),
        truncated=jnp.array([truncated]),
        discount_t=jnp.array([0.0 if terminated else 0.5]),
        rho=jnp.ones(1),
    )


def begin(the):
    agent = from_config(the, num_actions=2)
    return agent, agent.init(jax.random.key(0), jnp.ones(2), the)


def test_two_updates_by_hand():
    the = config()
    agent, state = begin(the)
    state, report = agent.update(state, step(0, 1, reward=1), None, the)
    # delta = 1 + 0.5 * 2 - 1 = 1, z = (1, 0).
    assert report.signals.td_error.tolist() == [1.0]
    assert state.params["w"].tolist() == [[1.5, 2.0]]
    assert float(report.metrics["gradient/norm"]) == 1.0
    state, report = agent.update(state, step(1, 0, reward=1.25), None, the)
    # delta = 1.25 + 0.5 * 1.5 - 2 = 0, then with reward 2.25 delta = 1, z = (1/4, 1).
    assert report.signals.td_error.tolist() == [0.0]
    state, report = agent.update(state, step(0, 1, reward=2.5), None, the)
    # delta = 2.5 + 1 - 1.5 = 2, z = (1 + 1/16, 1/4).
    np.testing.assert_allclose(state.params["w"], [[2.5625, 2.25]], rtol=1e-6)


@pytest.mark.parametrize(
    ("ending", "moved"),
    [({}, 0.25), ({"terminated": True}, 0.0), ({"truncated": True}, 0)],
)
def test_an_ended_episode_is_not_credited(ending, moved):
    the = config()
    agent, state = begin(the)
    state, _ = agent.update(state, step(0, 1, 0, **ending), None, the)
    before = state.params["w"][0]
    state, report = agent.update(state, step(1, 0, reward=9), None, the)
    change = state.params["w"][0] - before
    error = report.signals.td_error[0]
    np.testing.assert_allclose(change, 0.5 * error * jnp.array([moved, 1]), rtol=1e-6)


def test_kinds_of_traces_differ_where_a_state_comes_back():
    found = {}
    for kind in ("accumulating", "replacing", "true_online"):
        the = config(kind, 1.0)
        agent, state = begin(the)
        for _ in range(2):
            state, _ = agent.update(state, step(0, 0, reward=1), None, the)
        found[kind] = float(state.trace.eligibility["w"][0, 0, 0])
    # 1/2 + 1, 1, and 1/2 + (1 - 1/2 * 1/2 * 1).
    assert found == {"accumulating": 1.5, "replacing": 1.0, "true_online": 1.25}


def test_each_environment_has_its_own_trace():
    the = config(changes={"training.num_envs": 2})
    agent, state = begin(the)
    both = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b]), step(0, 0, 1), step(1, 1, 1, True)
    )
    state, report = agent.update(state, both, None, the)
    z = state.trace.eligibility["w"][:, 0]
    assert z.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert state.trace.discount.tolist() == [0.5, 0.0]
    # Errors 1 + 0.5 - 1 and 1 - 2; the mean of the two directions times 1/2.
    assert report.signals.td_error.tolist() == [0.5, -1.0]
    assert state.params["w"].tolist() == [[1.125, 1.75]]


def test_a_target_network_bootstraps():
    the = config(changes={"agent.target.polyak": 0.0})
    agent, state = begin(the)
    for _ in range(2):
        state, report = agent.update(state, step(0, 1, reward=1), None, the)
    # The value of the second state stays 2 in the target; that of the first is 1.5.
    assert report.signals.td_error.tolist() == [0.5]
    assert state.target_params["w"].tolist() == [[1.0, 2.0]]


def test_a_restart_in_fresh_environments_forgets_the_trace():
    the = rg.replace(config(), {"env.id": "chain/random_walk"})
    the = rg.replace(the, {"network.initial_weights": None})
    made = parts(Given(None, None), the)
    fresh = init(made, jax.random.key(0))
    old = jax.tree.map(jnp.ones_like, fresh.agent.trace)
    saved = fresh._replace(agent=fresh.agent._replace(trace=old))
    trace = restart(made, saved, fresh, 3).agent.trace
    assert float(trace.discount[0]) == 0.0
    assert not trace.eligibility["w"].any()


# ------------------------------------------------------------------- through training


@pytest.mark.parametrize("kind", ["accumulating", "replacing", "true_online"])
def test_lambda_zero_is_td(kind, check_is_td):
    check_is_td(TDLambda(discount=0.9, trace=kind, trace_decay=0.0))


def test_the_decay_is_an_input_of_the_program():
    agent = TDLambda(discount=0.9, trace_decay=0.5)
    base = rg.Config(
        agent=agent, network=Linear(), optimizer=SGD(learning_rate=0.1), replay=None
    )
    settings = {
        "env.id": "chain/random_walk",
        "training.total_steps": 60,
        "evaluation.interval": None,
        "tracking.interval": 60,
    }
    sweep = {"agent.trace_decay": [0.0, 1.0]}
    members = rg.population(rg.replace(base, settings), [0], sweep)
    first, second = (p["w"] for p in rg.train(members=members).params)
    assert len(split(members)) == 1
    assert np.abs(first - second).max() > 1e-3
