"""Closed forms in float64, reached by the project's own updates and training loop."""

import functools
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
from rl_grads.training import evaluation
from rl_grads.training.engine import make_agent
from rl_grads.training.member import Parts


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


@pytest.mark.slow
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


class Outcomes(NamedTuple):
    """Everything that can follow, a row each: from which state, what, how likely."""

    state: np.ndarray
    what: np.ndarray  # Features of s_t, reward, importance ratio, terminal.
    probability: np.ndarray  # Given the state.


def outcomes(chain):
    ratio = chain.target / np.where(chain.behaviour > 0, chain.behaviour, 1.0)
    joint = chain.behaviour[..., None] * chain.transition
    joint = joint * (chain.distribution > 0)[:, None, None]
    s, a, t = np.nonzero(joint)
    what = [chain.features[t], chain.reward[s, a, t], ratio[s, a], chain.terminal[t]]
    return Outcomes(s, np.column_stack(what), joint[s, a, t])


def draw(what, discount):
    """The fields of a transition that say what followed."""
    r_t, rho, terminated = what[:, -3:].T
    return {
        "r_t": r_t,
        "s_t": what[:, :-3],
        "discount_t": discount * (1 - terminated),
        "rho": rho,
    }


def enumerated(rows, probability, size, discount):
    """A batch from rows: features of s_tm1, and one or two outcomes; equal ones add."""
    rows, which = np.unique(rows, axis=0, return_inverse=True)
    first = draw(rows[:, size : 2 * size + 3], discount)
    second = {}
    if rows.shape[1] > 2 * size + 3:
        second = draw(rows[:, 2 * size + 3 :], discount)
    batch = Transition(
        s_tm1=rows[:, :size],
        a_tm1=np.zeros(len(rows), np.int32),
        terminated=rows[:, 2 * size + 2] > 0,
        truncated=np.zeros(len(rows), bool),
        **first,
        **{f"{name}_alt": value for name, value in second.items()},
    )
    return Enumerated(batch, np.bincount(which.ravel(), weights=probability))


@functools.cache
def enumerate_transitions(name, discount):
    """All transitions under the behaviour policy."""
    chain = make_chain(name).exact
    found, x = outcomes(chain), chain.features
    rows = np.column_stack([x[found.state], found.what])
    probability = chain.distribution[found.state] * found.probability
    return enumerated(rows, probability, x.shape[1], discount)


def enumerate_pairs(name, discount):
    """All pairs of independent draws from one state."""
    chain = make_chain(name).exact
    found, x = outcomes(chain), chain.features
    i, j = np.nonzero(found.state[:, None] == found.state)
    rows = np.column_stack([x[found.state[i]], found.what[i], found.what[j]])
    probability = found.probability[i] * found.probability[j]
    probability = chain.distribution[found.state[i]] * probability
    return enumerated(rows, probability, x.shape[1], discount)


def regression(name):
    """Every state with its value for a target: what Monte Carlo sees in expectation."""
    chain = make_chain(name).exact
    live = ~chain.terminal
    x, count = chain.features[live], live.sum()
    what = np.column_stack([0 * x, chain.values[live], np.ones((count, 2))])
    rows = np.column_stack([x, what])
    return enumerated(rows, chain.distribution[live], x.shape[1], 1.0)


def sweeps(name, config, counts, chain=None):
    """Weights after so many expected updates, each one call of `agent.update`."""
    agent = make_agent(config, make_chain(name))
    enumerate_all = enumerate_pairs if agent.double_sampling else enumerate_transitions
    chain = chain or enumerate_all(name, config.agent.discount)
    dtype = jnp.result_type(float)
    batch = jax.tree.map(jnp.asarray, chain.batch)
    importance = jnp.asarray(chain.probability * len(chain.probability), dtype)
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


def errors_of(name, config, w):
    """RMSVE and RMSPBE of weights, as evaluation measures them."""
    environment = make_chain(name)
    parts = Parts(make_agent(config, environment), environment, None, config)

    @jax.jit
    def measure(params):
        measures = (evaluation.value_error, evaluation.projected_error)
        return [measure(parts, params) for measure in measures]

    return np.array(measure({"w": jnp.asarray(w)[None]}))


@pytest.mark.parametrize("enumerate_all", [enumerate_transitions, enumerate_pairs])
def test_the_enumeration_is_a_distribution_with_the_chains_own_expectations(
    enumerate_all,
):
    for name in ("baird", "random_walk", "a_split"):
        chain, exact = enumerate_all(name, 1.0), make_chain(name).exact
        assert chain.probability.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(
            chain.probability @ chain.batch.s_tm1,
            exact.distribution @ exact.features,
            atol=1e-12,
        )


PRECISIONS = {"float64": 1e-5, "float32": 1e-3}
MONTE_CARLO_10 = (
    -0.8300525389093407,
    -0.6516363960688776,
    -0.4661438705866969,
    -0.2790733269503992,
    -0.08668924187223444,
    0.09282357290491601,
    0.27910244506334303,
    0.4661428140173445,
    0.6516362992535468,
    0.8300525377941114,
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
# Expected weights and their root value error.
THOUSAND = {
    "monte_carlo": (MONTE_CARLO_10, 0.054376977916033874),
    "td": (AGGREGATION_10, 0.11673527317635149),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("row", THOUSAND)
def test_expected_updates_find_the_fixed_points_of_the_thousand_state_walk(
    row, precision
):
    expected, root_value_error = THOUSAND[row]
    with jax.enable_x64(precision == "float64"):
        config = prediction({"optimizer.learning_rate": 10.0, "precision": precision})
        chain = regression("thousand_state") if row == "monte_carlo" else None
        found = sweeps("thousand_state", config, (3000,), chain)[3000]
        error, _ = errors_of("thousand_state", config, found)
    assert found.dtype == precision
    tolerance = PRECISIONS[precision]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-3 * tolerance)
    assert error == pytest.approx(root_value_error, rel=tolerance)


class Row(NamedTuple):
    """Baird's chain after some sweeps. Weights 1 to 6 stay equal."""

    first: float
    seventh: float
    eighth: float
    rmsve: float
    rmspbe: float


# Steps of the parameters and of the secondary weights, and rows by sweeps.
TD = (0.01, 0.01)
TDC = (0.005, 0.05)
BAIRD_TD = {
    1: Row(1.02537142857, 9.99982857143, 1.07577142857, 5.42884330047, 8.24302225110),
    100: Row(3.89488570591, 9.97119856747, 9.62705425267, 19.5455273322, 10.6625278603),
    1000: Row(
        114.433713616, 6.85003034223, 335.001209112, 581.355104862, 98.3695151509
    ),
}
BAIRD_TDC = {
    1: Row(1.01268571429, 9.99991428571, 1.03788571429, 5.37352573017, 8.23221492037),
    100: Row(
        1.84671484505, 7.73757208156, -0.984711301731, 3.32296081931, 2.77916562349
    ),
    500: Row(
        2.13626801242, 6.62636609426, -2.33846377422, 1.93627490181, 0.00830041168897
    ),
    1000: Row(
        2.13531375721, 6.62805132801, -2.33795607235, 1.93546453666, 0.00737855976473
    ),
}
BAIRD_RESIDUAL = {
    1: Row(1.02537142857, 9.92464514286, 0.925404571429, 5.23458341547, 8.03767885512),
    1000: Row(
        2.13520740579, 6.62809092673, -2.33819592918, 1.93501377294, 0.00737680779652
    ),
}
# What the target policy does is certain here, so one draw is as good as two.
BAIRD = {
    "semi": (TD, BAIRD_TD),
    "tdc": (TDC, BAIRD_TDC),
    "full": (TD, BAIRD_RESIDUAL),
    "residual": (TD, BAIRD_RESIDUAL),
}
BAIRD_GROWTH = 1.0023925046420246
START = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.0)


def on_bairds_chain(td_gradient, steps, precision):
    step_size, secondary = steps
    changes = {
        "agent.discount": 0.99,
        "agent.td_gradient": td_gradient,
        "agent.secondary.learning_rate_ratio": secondary / step_size,
        "optimizer.learning_rate": step_size,
        "precision": precision,
    }
    return prediction(changes, initial_weights=START)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("td_gradient", BAIRD)
def test_expected_updates_on_bairds_chain(td_gradient, precision):
    steps, rows = BAIRD[td_gradient]
    with jax.enable_x64(precision == "float64"):
        config = on_bairds_chain(td_gradient, steps, precision)
        found = sweeps("baird", config, rows)
        errors = {count: errors_of("baird", config, w) for count, w in found.items()}
    for count, row in rows.items():
        assert found[count].dtype == precision
        expected = [row.first] * 6 + [row.seventh, row.eighth]
        tolerance = PRECISIONS[precision]
        np.testing.assert_allclose(found[count], expected, rtol=tolerance)
        np.testing.assert_allclose(errors[count], row[3:], rtol=tolerance)


def test_semi_gradient_td_diverges_on_bairds_chain_at_the_exact_rate():
    with jax.enable_x64(True):
        config = on_bairds_chain("semi", TD, "float64")
        found = sweeps("baird", config, (9999, 10_000))
    features = make_chain("baird").exact.features
    before, after = (np.linalg.norm(features @ found[n]) for n in (9999, 10_000))
    assert after / before == pytest.approx(BAIRD_GROWTH, abs=1e-8)


@pytest.mark.parametrize(
    ("td_gradient", "steps"),
    [("gtd2", (0.05, 0.5)), ("tdrc", (0.05, 0.05))],
)
def test_values_on_bairds_chain_converge_where_td_diverges(td_gradient, steps):
    with jax.enable_x64(True):
        config = on_bairds_chain(td_gradient, steps, "float64")
        found = sweeps("baird", config, (50_000,))[50_000]
        first, last = (errors_of("baird", config, w)[1] for w in (START, found))
    assert last < 1e-3 * first


A_SPLIT = {
    "semi": (0.5, 1.0, 0.0),
    "residual": (0.5, 1.0, 0.0),
    "full": (0.5, 0.75, 0.25),
    "gtd2": (0.5, 1.0, 0.0),
    "tdc": (0.5, 1.0, 0.0),
    "tdrc": (0.5, 1.0, 0.0),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("td_gradient", A_SPLIT)
def test_the_a_split(td_gradient, precision):
    with jax.enable_x64(precision == "float64"):
        changes = {"agent.td_gradient": td_gradient, "precision": precision}
        config = prediction(changes | {"optimizer.learning_rate": 0.5})
        found = sweeps("a_split", config, (3000,))[3000]
    expected, tolerance = A_SPLIT[td_gradient], PRECISIONS[precision]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("phi", "expected"), [(0.0, (1, 0)), (1.0, (0.75, 0.25))])
def test_interpolation_on_the_a_split_reaches_both_ends(phi, expected):
    changes = {"agent.td_gradient": "interpolate", "agent.interpolation": phi}
    config = prediction(changes | {"optimizer.learning_rate": 0.5})
    found = sweeps("a_split", config, (3000,))[3000]
    np.testing.assert_allclose(found, [0.5, *expected], atol=1e-5)


def test_interpolation_on_the_a_split_lies_between():
    changes = {"agent.td_gradient": "interpolate", "agent.interpolation": 0.5}
    config = prediction(changes | {"optimizer.learning_rate": 0.5})
    found = sweeps("a_split", config, (3000,))[3000]
    # 1 - b = phi (b - a) and -c = phi (c - a) with a = (b + c) / 2: b = (1 + phi / 2) /
    # (1 + phi).
    np.testing.assert_allclose(found, [0.5, 5 / 6, 1 / 6], atol=1e-5)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "replay"), [(500, Replay(capacity=1000)), (5, None)], ids=["500", "5"]
)
def test_a_truncated_episode_still_has_its_future(limit, replay):
    # Taken for a termination, the value would be 83.47 (limit 500) or 4.81 (limit 5).
    changes = {"replay": replay, "training.warmup_steps": 8, "training.batch_size": 8}
    value = value_of_one_state(limit, 1.0, 2000, **changes)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 100.0, rtol=2e-5)


@pytest.mark.slow
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
