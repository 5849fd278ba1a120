"""Closed forms in float64, reached by the project's own updates and training loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.envs.chain import make as make_chain
from rl_grads.envs.environment import Environment, Step
from rl_grads.gradients.schema import SGD
from rl_grads.replay.schema import Replay
from rl_grads.td.transition import Transition
from rl_grads.training.engine import make_agent


def prediction(changes, **network):
    """Linear prediction by SGD, evaluated at the end."""
    base = rg.Config(
        agent=Prediction(), network=Linear(**network), optimizer=SGD(), replay=None
    )
    quiet = {"evaluation.interval": None, "tracking.progress": False}
    return rg.replace(base, quiet | changes)


def weights(result):
    """The weight vectors of all members, `[members, features]`."""
    return np.stack([params["w"][0] for params in result.params])


# ------------------------------------------------------------- the five-state walk

# Mean of V over all walks; the constant step size leaves a bias at every length.
FIVE_STATES = {
    1: (0.475, 0.5, 0.5, 0.5, 0.525),
    10: (
        0.3238122183639937,
        0.4500757483532625,
        0.5,
        0.5499242516467369,
        0.6761877816360059,
    ),
    100: (
        0.14042589715547396,
        0.3109870981081522,
        0.5,
        0.689012901891831,
        0.8595741028445082,
    ),
}


@pytest.mark.parametrize(
    ("episodes", "members", "interval"),
    [(1, 4000, 50), (10, 4000, 50), (100, 20_000, 200)],
)
def test_online_td_on_the_five_state_walk_has_the_exact_mean(
    episodes, members, interval
):
    changes = {
        "optimizer.learning_rate": 0.1,
        "training.total_steps": 5000,
        "training.total_episodes": episodes,
        "tracking.interval": interval,
    }
    config = prediction(changes, initial_value=0.5)
    # Without its exact answers it is not evaluated.
    env = make_chain("random_walk")._replace(exact=None)
    result = rg.train(env=env, members=rg.population(config, seeds=range(members)))
    assert np.all(result.final()["training/episodes"] >= episodes)
    values, exact = weights(result), np.array(FIVE_STATES[episodes])
    bound = 4 * values.std(0, ddof=1) / np.sqrt(members)
    assert np.all(bound < 0.01 * exact)
    np.testing.assert_array_less(np.abs(values.mean(0) - exact), bound + 1e-6)


# -------------------------------------------------- expected updates on whole chains


class Enumerated(NamedTuple):
    """Every transition of a chain, and the probability of each."""

    batch: Transition
    probability: np.ndarray


def enumerate_transitions(name, discount):
    """All transitions under the behaviour policy; equal ones are added up."""
    chain = make_chain(name).exact
    ratio = chain.target / np.where(chain.behaviour > 0, chain.behaviour, 1.0)
    joint = (chain.distribution[:, None] * chain.behaviour)[..., None]
    joint = joint * chain.transition
    s, a, t = np.nonzero(joint)
    x = chain.features
    rows = np.column_stack(
        [x[s], x[t], chain.reward[s, a, t], ratio[s, a], chain.terminal[t]]
    )
    rows, which = np.unique(rows, axis=0, return_inverse=True)
    probability = np.bincount(which.ravel(), weights=joint[s, a, t])
    size = x.shape[1]
    r_t, rho, terminated = rows[:, 2 * size :].T
    batch = Transition(
        s_tm1=rows[:, :size],
        a_tm1=np.zeros(len(rows), np.int32),
        r_t=r_t,
        s_t=rows[:, size : 2 * size],
        terminated=terminated.astype(bool),
        truncated=np.zeros(len(rows), bool),
        discount_t=discount * (1 - terminated),
        rho=rho,
    )
    return Enumerated(batch, probability)


def sweeps(name, config, counts):
    """Weights after so many expected updates, each one call of `agent.update`."""
    agent = make_agent(config, make_chain(name))
    chain = enumerate_transitions(name, config.agent.discount)
    batch = jax.tree.map(jnp.asarray, chain.batch)
    importance = jnp.asarray(chain.probability * len(chain.probability))
    state = agent.init(jax.random.key(0), batch.s_tm1[0], config)

    @jax.jit
    def run(state, count):
        return jax.lax.fori_loop(
            0, count, lambda _, s: agent.update(s, batch, importance, config)[0], state
        )

    found, done = {}, 0
    for count in sorted(counts):
        state, done = run(state, count - done), count
        found[count] = np.asarray(state.params["w"][0])
    return found


def test_the_enumeration_is_a_distribution_with_the_chains_own_expectations():
    for name in ("thousand_state", "baird", "random_walk"):
        chain, exact = enumerate_transitions(name, 1.0), make_chain(name).exact
        assert chain.probability.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(
            chain.probability @ chain.batch.s_tm1,
            exact.distribution @ exact.features,
            atol=1e-12,
        )


AGGREGATION_10 = (
    -0.693223935287193,
    -0.48050613399380954,
    -0.30332686936380976,
    -0.1458277692888907,
    -0.0009434956833555966,
    0.12238061836368934,
    0.24971844302386917,
    0.38805866778009607,
    0.5436885387879913,
    0.7305349607661933,
)


def test_expected_updates_find_the_fixed_point_of_the_thousand_state_walk():
    with jax.enable_x64(True):
        config = prediction({"optimizer.learning_rate": 10.0, "precision": "float64"})
        found = sweeps("thousand_state", config, (3000,))[3000]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, AGGREGATION_10, atol=1e-7)


# Weights 1 to 6 stay equal; these are the first, the seventh and the eighth.
BAIRD = {
    1: (1.0253714285714286, 9.999828571428571, 1.0757714285714286),
    100: (3.8948857059147652, 9.971198567465292, 9.627054252674885),
    1000: (114.43371614264636, 6.850030342228852, 335.00120911239696),
}
BAIRD_GROWTH = 1.0023925046420246


def test_semi_gradient_td_diverges_on_bairds_chain_at_the_exact_rate():
    with jax.enable_x64(True):
        changes = {
            "agent.discount": 0.99,
            "optimizer.learning_rate": 0.01,
            "precision": "float64",
        }
        start = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.0)
        config = prediction(changes, initial_weights=start)
        found = sweeps("baird", config, (*BAIRD, 9999, 10_000))
        features = make_chain("baird").exact.features
    for count, (first, seventh, eighth) in BAIRD.items():
        expected = [first] * 6 + [seventh, eighth]
        np.testing.assert_allclose(found[count], expected, rtol=1e-11)
    before, after = (np.linalg.norm(features @ found[n]) for n in (9999, 10_000))
    assert after / before == pytest.approx(BAIRD_GROWTH, abs=1e-8)


# ------------------------------------------------------------------------ truncation


def one_state(limit, reward):
    """A single state, the same reward at every step, cut off after `limit` steps."""

    def reset(key):
        return jnp.int32(0), jnp.ones(1)

    def step(key, state, action):
        cut = state + 1 == limit
        result = Step(
            obs=jnp.ones(1),
            reward=jnp.asarray(reward, jnp.result_type(float)),
            terminated=jnp.bool_(False),
            truncated=cut,
            final_obs=jnp.ones(1),
        )
        return jnp.where(cut, 0, state + 1), result

    observation = jax.ShapeDtypeStruct((1,), jnp.result_type(float))
    return Environment("one_state", reset, step, observation, 1, limit)


def value_of_one_state(limit, reward, steps, **changes):
    changes = {"optimizer.learning_rate": 1.0, "agent.discount": 0.99} | changes
    config = rg.replace(prediction(changes), {"training.total_steps": steps})
    result = rg.train(env=one_state(limit, reward), members=rg.population(config))
    episodes = result.final()["training/episodes"]
    assert episodes[0] == steps // limit >= 2
    return result.params[0]["w"]


@pytest.mark.parametrize(
    ("limit", "replay"), [(500, Replay(capacity=1000)), (5, None)], ids=["500", "5"]
)
def test_a_truncated_episode_still_has_its_future(limit, replay):
    # Taken for a termination, the value would be 83.47 (limit 500) or 4.81 (limit 5).
    changes = {"replay": replay, "training.warmup_steps": 8, "training.batch_size": 8}
    value = value_of_one_state(limit, 1.0, 2000, **changes)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 100.0, rtol=2e-5)


def test_float64_reaches_from_the_reward_to_the_value():
    changes = {
        "precision": "float64",
        "replay": Replay(capacity=100),
        "training.warmup_steps": 8,
        "training.batch_size": 8,
    }
    value = value_of_one_state(5, 0.1, 4000, **changes)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, 10.0, rtol=1e-12)
