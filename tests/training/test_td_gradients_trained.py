"""`agent.td_gradient` in whole runs: second draws, what converges where, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rl_grads as rg
from rl_grads import agents
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.config import ConfigError
from rl_grads.envs.chain import make as make_chain
from rl_grads.gradients.schema import SGD
from rl_grads.replay.schema import Replay
from rl_grads.training import collecting, learning, loop
from rl_grads.training.engine import make_agent
from rl_grads.training.member import Parts

pytestmark = pytest.mark.slow


def setting(td_gradient, env, **changes):
    config = rg.Config(
        agent=Prediction(td_gradient=td_gradient),
        network=Linear(),
        optimizer=SGD(learning_rate=0.5, learning_rate_decay=0.0),
        replay=None,
    )
    base = {
        "env.id": f"chain/{env}",
        "training.num_envs": 32,
        "training.total_steps": 32 * 2000,
        "evaluation.interval": None,
        "tracking.progress": False,
    }
    return rg.replace(config, base | changes)


def collected(td_gradient, env, steps):
    """Experience `[steps, 32]` of one member."""
    config = setting(td_gradient, env, **{"training.num_steps": steps})
    environment = make_chain(env)
    agent = make_agent(config, environment)
    parts = Parts(agent, environment, None, config)

    @jax.jit
    def run(key):
        member = loop.init(parts, key)
        keys = collecting.iteration_keys(member.key, jnp.int32(0), config.training)
        _, experience, _ = collecting.collect(parts, member, keys)
        return experience, learning.transition(experience, config)

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def test_the_second_draw_comes_from_the_same_state_and_is_independent():
    _, found = collected("residual", "random_walk", 200)
    state, known = found.s_tm1.argmax(-1), found.s_t.any(-1) & found.s_t_alt.any(-1)
    moves = [s.argmax(-1)[known] - state[known] for s in (found.s_t, found.s_t_alt)]
    assert all(set(move) == {-1, 1} for move in moves)
    inner = np.isin(state[known], [1, 2, 3])
    pairs = (moves[0] + 1 + (moves[1] + 1) // 2)[inner]
    counts = np.bincount(pairs, minlength=4)
    assert counts.sum() > 2000
    assert stats.chisquare(counts).pvalue > 1e-3
    ended = ~found.s_t_alt.any(-1)
    np.testing.assert_array_equal(found.discount_t_alt, np.where(ended, 0.0, 1.0))
    won = ended & (state == 4)
    np.testing.assert_array_equal(found.r_t_alt, won)


def test_each_draw_carries_its_own_ratio():
    _, found = collected("residual", "baird", 100)
    for s_t, rho in ((found.s_t, found.rho), (found.s_t_alt, found.rho_alt)):
        to_seventh = s_t[..., 6] > 0
        np.testing.assert_allclose(rho, np.where(to_seventh, 7.0, 0.0), rtol=1e-6)
    assert np.mean(found.rho != found.rho_alt) > 0.1


def test_other_gradients_draw_once_and_see_the_same_transitions():
    plain, one = collected("semi", "random_walk", 20)
    twice, both = collected("residual", "random_walk", 20)
    assert plain.second is None and one.r_t_alt is None
    jax.tree.map(np.testing.assert_array_equal, plain, twice._replace(second=None))
    assert both.s_t_alt.shape == one.s_t.shape


@pytest.mark.parametrize(
    ("td_gradient", "expected"),
    [("semi", (0.5, 1, 0)), ("residual", (0.5, 1, 0)), ("full", (0.5, 0.75, 0.25))],
)
def test_sampled_updates_on_the_a_split(td_gradient, expected):
    result = rg.train(members=rg.population(setting(td_gradient, "a_split"), range(4)))
    values = np.stack([params["w"][0] for params in result.params])
    np.testing.assert_allclose(values.mean(0), expected, atol=0.02)
    final = result.final()
    assert final["evaluation/rmsve"].max() < (0.2 if td_gradient == "full" else 0.05)
    assert np.all(np.isfinite(final["evaluation/rmspbe"]))
    assert np.all(np.abs(final["gradient/semi_full_cosine"]) <= 1)


OFF_POLICY = {
    "agent.discount": 0.9,
    "agent.secondary.learning_rate_ratio": 4.0,
    # Above 0.2 the regulariser lets TDRC diverge here, as TD does.
    "agent.secondary.regulariser": 0.1,
    "network.initial_weights": (1.0,),
    "optimizer.learning_rate": 0.1,
    "training.total_steps": 32 * 3000,
}


@pytest.mark.parametrize("td_gradient", ["semi", "tdc", "gtd2", "tdrc", "emphatic"])
def test_who_diverges_off_policy(td_gradient):
    config = setting(td_gradient, "two_state", **OFF_POLICY)
    result = rg.train(members=rg.population(config, range(4)))
    found = np.array([abs(params["w"].item()) for params in result.params])
    assert found.min() > 100 if td_gradient == "semi" else found.max() < 0.6


def agent(td_gradient):
    from rl_grads.agents import networks

    network = networks.linear(Linear(), 1)
    return agents.prediction(network=network, td_gradient=td_gradient)


def test_an_agent_handed_over_is_checked_as_well():
    members = rg.population(setting("semi", "a_split"))
    with pytest.raises(ConfigError, match="draws twice from one state"):
        rg.train(agent("residual"), "gymnax/CartPole-v1", members)
    stored = rg.population(setting("semi", "a_split", replay=Replay(capacity=100)))
    with pytest.raises(ConfigError, match="replay=buffer: expected null"):
        rg.train(agent("residual"), "chain/a_split", stored)
