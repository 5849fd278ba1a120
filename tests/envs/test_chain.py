"""Markov chains: exact answers against literals, samples against the exact tables."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import ConfigError
from rl_grads.envs import chain, chain_answers
from rl_grads.envs.chain_answers import rmspbe, rmsve, td_matrices
from rl_grads.envs.chain_definitions import DEFINITIONS

NAMES = (
    "random_walk",
    "random_walk_19",
    "thousand_state",
    "thousand_state_polynomial",
    "boyan",
    "baird",
    "a_split",
    "two_state",
    "blind_cliffwalk",
)


def exact(name: str) -> chain_answers.MarkovChain:
    return chain.make(name).exact


# --------------------------------------------------------------------- exact answers


def test_random_walk():
    walk = exact("random_walk")
    sixths = np.arange(1, 6) / 6
    np.testing.assert_allclose(walk.values, [0, *sixths, 0], atol=1e-14)
    np.testing.assert_allclose(walk.td_fixed_point, sixths, atol=1e-14)
    np.testing.assert_allclose(walk.mc_fixed_point, sixths, atol=1e-14)
    ninths = np.array([0, 1, 2, 3, 2, 1, 0]) / 9
    np.testing.assert_allclose(walk.distribution, ninths, atol=1e-14)
    assert chain_answers.expected_visits(walk).sum() == pytest.approx(9)


def test_random_walk_19():
    values = np.arange(-9, 10) / 10
    np.testing.assert_allclose(exact("random_walk_19").values[1:-1], values, atol=1e-13)


def test_thousand_state_values_and_distribution():
    walk = exact("thousand_state")
    values = [
        -0.9219604605455651,
        -0.7541769571527501,
        -0.47270174078248167,
        -0.0009434956833586706,
        0.0009434956833587833,
        0.921960460545564,
    ]
    np.testing.assert_allclose(
        walk.values[[1, 100, 250, 500, 501, 1000]], values, atol=1e-12
    )
    np.testing.assert_allclose(
        walk.distribution[[1, 500]],
        [0.00014713449315043365, 0.013692348308814477],
        rtol=1e-11,
    )
    length = chain_answers.expected_visits(walk).sum()
    assert length == pytest.approx(83.1524486824354, abs=1e-10)


def test_thousand_state_fixed_points():
    walk = exact("thousand_state")
    mc = [
        -0.8300525389093407,
        -0.6516363960688776,
        -0.4661438705866969,
        -0.2790733369503992,
        -0.08668924187223444,
        0.09282357290491601,
        0.27910244506334303,
        0.4661428140173445,
        0.6516362992535468,
        0.8300525377941114,
    ]
    td = [
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
    ]
    np.testing.assert_allclose(walk.mc_fixed_point, mc, rtol=0, atol=1e-9)
    np.testing.assert_allclose(walk.td_fixed_point, td, rtol=0, atol=1e-9)
    assert rmsve(walk, np.array(mc)) == pytest.approx(0.054376977916033874, abs=1e-9)
    assert rmsve(walk, np.array(td)) == pytest.approx(0.11673527317635149, abs=1e-9)


def test_polynomial_features_give_the_known_variance_under_gradient_norms():
    """Trace of the variance of a one-sample TD update, priorities over uniform."""
    walk = exact("thousand_state_polynomial")
    assert walk.features[1000].tolist() == [1, 3, 9, 27, 81, 243]
    values = walk.features @ walk.td_fixed_point
    delta = walk.reward + values - values[:, None, None]
    joint = walk.distribution[:, None, None] * 0.5 * walk.transition
    norm = np.abs(delta) * np.linalg.norm(walk.features, axis=1)[:, None, None]
    ratio = (joint * norm).sum() ** 2 / (joint * norm**2).sum()
    assert ratio == pytest.approx(0.1419343698233305, abs=1e-10)


def test_boyan():
    boyan = exact("boyan")
    np.testing.assert_allclose(boyan.values, [*(-2 * np.arange(13)), 0], atol=1e-12)
    for weights in (boyan.td_fixed_point, boyan.mc_fixed_point):
        np.testing.assert_allclose(weights, [-24, -16, -8, 0], atol=1e-10)
    assert boyan.features[[12, 11, 6, 0]].tolist() == [
        [1, 0, 0, 0],
        [0.75, 0.25, 0, 0],
        [0, 0.5, 0.5, 0],
        [0, 0, 0, 1],
    ]


def test_a_split_against_the_naive_residual():
    split = exact("a_split")
    np.testing.assert_allclose(split.values, [0.5, 1, 0, 0])
    np.testing.assert_allclose(split.distribution, [0.5, 0.25, 0.25, 0])
    np.testing.assert_allclose(split.td_fixed_point, [0.5, 1, 0], atol=1e-14)
    weight = split.distribution[:, None] * split.transition[:, 0]
    slope = split.features[:, None] - split.features
    second_moment = np.einsum("st,stc,std->cd", weight, slope, slope)
    naive = np.linalg.solve(
        second_moment, np.einsum("st,st,stc->c", weight, split.reward[:, 0], slope)
    )
    np.testing.assert_allclose(naive, [0.5, 0.75, 0.25], atol=1e-14)


def test_blind_cliffwalk():
    walk = exact("blind_cliffwalk")
    powers = 0.9 ** np.arange(9, -1, -1)
    np.testing.assert_allclose(walk.values, [*powers, 0], atol=1e-14)
    # A whole walk has probability 2**-10; an episode has 2 - 2**-9 steps.
    visits = chain_answers.expected_visits(walk)
    np.testing.assert_allclose(visits, [*(0.5 ** np.arange(10)), 0], atol=1e-14)
    short = chain_answers.solve(DEFINITIONS["blind_cliffwalk"](4))
    assert short.discount == 0.75
    np.testing.assert_allclose(short.values, [0.421875, 0.5625, 0.75, 1, 0])


def test_two_state():
    pair = exact("two_state")
    matrices = td_matrices(pair)
    np.testing.assert_allclose(pair.distribution, [0.5, 0.5])
    assert matrices.A.item() == pytest.approx(-0.2)
    assert matrices.C.item() == pytest.approx(2.5)
    assert td_matrices(pair, discount=0.99).A.item() == pytest.approx(-0.47)
    assert rmsve(pair, np.ones(1)) == pytest.approx(np.sqrt(2.5))
    assert rmspbe(pair, np.ones(1)) == pytest.approx(np.sqrt(0.2**2 / 2.5))
    assert pair.td_fixed_point.tolist() == [0.0]


BAIRD_FIRST = np.array([1.0, 1, 1, 1, 1, 1, 10, 1])


@pytest.mark.parametrize(
    ("upper", "seventh", "eighth", "value_error", "projected_error"),
    [
        pytest.param(
            1.0253714285714286,
            9.999828571428571,
            1.0757714285714286,
            5.428843300474593,
            8.243022251103188,
            id="td-1",
        ),
        pytest.param(
            114.43371614264636,
            6.850030342228852,
            335.00120911239696,
            581.3551048616907,
            98.3695151508808,
            id="td-1000",
        ),
        pytest.param(
            2.1353137572064553,
            6.628051328013745,
            -2.3379560723531507,
            1.9354645366616534,
            0.007378559764734412,
            id="tdc-1000",
        ),
    ],
)
def test_baird_errors(upper, seventh, eighth, value_error, projected_error):
    w = np.array([upper] * 6 + [seventh, eighth])
    assert rmsve(exact("baird"), w) == pytest.approx(value_error, rel=1e-9)
    assert rmspbe(exact("baird"), w) == pytest.approx(projected_error, rel=1e-9)


def test_baird_expected_td_update_diverges_at_the_known_rate():
    baird = exact("baird")
    np.testing.assert_allclose(baird.distribution, np.full(7, 1 / 7), atol=1e-14)
    matrices = td_matrices(baird)
    after = BAIRD_FIRST + 0.01 * (matrices.b - matrices.A @ BAIRD_FIRST)
    known = [1.0253714285714286] * 6 + [9.999828571428571, 1.0757714285714286]
    np.testing.assert_allclose(after, known, rtol=1e-14)
    rate = np.abs(np.linalg.eigvals(np.eye(8) - 0.01 * matrices.A)).max()
    assert rate == pytest.approx(1.0023925046420246, abs=1e-12)


def test_key_matrices_carry_expected_tdc():
    """`E[discount rho x_t x_tm1^T]` of TDC is `C - A^T` (Sutton & Barto 11.7)."""
    A, b, C = td_matrices(exact("baird"))
    w, v = BAIRD_FIRST, np.zeros(8)
    for _ in range(100):
        g = b - A @ w
        w, v = w + 0.005 * (g - (C - A.T) @ v), v + 0.05 * (g - C @ v)
    known = [1.8467148450505877] * 6 + [7.737572081558754, -0.9847113017307209]
    np.testing.assert_allclose(w, known, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_consistent(name):
    c = exact(name)
    assert c.distribution.sum() == pytest.approx(1)
    assert not c.values[c.terminal].any()
    assert rmspbe(c, c.td_fixed_point) == pytest.approx(0, abs=1e-9)
    best = rmsve(c, c.mc_fixed_point)
    assert best <= rmsve(c, c.td_fixed_point) + 1e-12
    nudged = c.mc_fixed_point + 1e-3 * np.eye(len(c.mc_fixed_point))[0]
    assert best < rmsve(c, nudged)


def test_discount_can_be_changed():
    walk = exact("random_walk")
    impatient = chain_answers.true_values(walk, discount=0.0)
    np.testing.assert_allclose(impatient, [0, 0, 0, 0, 0, 0.5, 0])
    assert rmsve(walk, impatient[1:-1], discount=0.0) == pytest.approx(0)
    assert rmsve(walk, impatient[1:-1]) > 0.1


# ----------------------------------------------------------------- names and bad input


def test_names():
    assert chain.names() == NAMES
    assert [chain.make(name).name for name in NAMES] == [f"chain/{n}" for n in NAMES]
    assert chain.make("baird") is chain.make("baird")


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"chain/randm_walk.*did you mean 'random_w"):
        chain.make("randm_walk")


def test_environment_record_is_hashable_and_answers_are_read_only():
    env = chain.make("boyan")
    assert hash(env) == hash(chain.make("boyan"))
    assert env == chain.make("boyan") and env != chain.make("a_split")
    with pytest.raises(ValueError, match="read-only"):
        env.exact.values[0] = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.array([0.5, 0.0])}, "start: expected probabilities"),
        ({"behaviour": np.array([[1.0, 0.0]] * 2)}, "behaviour: expected to take"),
        ({"terminal": np.array([True, False])}, "features: expected zeros"),
    ],
)
def test_impossible_chains_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        chain_answers.solve(DEFINITIONS["two_state"]()._replace(**change))


def test_start_in_a_terminal_state_is_refused():
    walk = DEFINITIONS["a_split"]()
    with pytest.raises(ValueError, match="start: expected no probability"):
        chain_answers.solve(walk._replace(start=walk.terminal.astype(float)))


def test_continuing_chains_have_no_expected_visits():
    with pytest.raises(ValueError, match="terminal state"):
        chain_answers.expected_visits(exact("baird"))


# ---------------------------------------------------------------------------- samples

# The polynomial chain shares its tables with thousand_state.
SAMPLED = tuple(n for n in NAMES if n != "thousand_state_polynomial")


class History(NamedTuple):
    """What `simulate` records, `[T, N, ...]`."""

    index: Any
    obs: Any
    action: Any
    rho: Any
    step: Any
    following: Any


@cache
def simulate(name: str, num_envs: int = 400, num_steps: int = 500) -> History:
    """The behaviour policy in many environments; the first half is dropped."""
    env = chain.make(name)

    def act(carry, key):
        state, obs = carry
        action_key, step_key = jax.random.split(key)
        action, rho = env.behaviour(action_key, state)
        new, step = env.step(step_key, state, action)
        record = History(state.index, obs, action, rho, step, new.index)
        return (new, step.obs), record

    # Compiling costs more than running here.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    @jax.vmap
    def run(key):
        first, rest = jax.random.split(key)
        keys = jax.random.split(rest, num_steps)
        return jax.lax.scan(act, env.reset(first), keys)[1]

    history = run(jax.random.split(jax.random.key(0), num_envs))
    return jax.tree.map(
        lambda x: np.moveaxis(np.asarray(x), 0, 1)[num_steps // 2 :], history
    )


def assert_mean(samples: np.ndarray, expected: np.ndarray) -> None:
    """The mean of independent rows lies within five standard errors of `expected`."""
    error = samples.std(0) / np.sqrt(len(samples))
    np.testing.assert_array_less(
        np.abs(samples.mean(0) - expected), 5 * error + 1e-6 * (1 + np.abs(expected))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_behaviour_visits_states_as_the_distribution_says(name):
    index, size = simulate(name).index, len(exact(name).values)
    block = np.arange(size) // (1 + size // 50)
    groups = np.eye(block.max() + 1)[block]
    visits = np.stack([np.bincount(row, minlength=size) for row in index.T])
    assert_mean(visits / len(index) @ groups, exact(name).distribution @ groups)


@pytest.mark.parametrize("name", SAMPLED)
def test_mean_td_update_is_the_expected_one(name):
    """Ties rho, rewards, observations and terminations to `b - A w`."""
    c, history = exact(name), simulate(name)
    w = np.linspace(-1, 1, c.features.shape[1]) + 0.5
    live = ~history.step.terminated
    delta = (
        history.step.reward
        + c.discount * live * (history.step.final_obs @ w)
        - history.obs @ w
    )
    update = (history.rho * delta)[..., None] * history.obs
    matrices = td_matrices(c)
    assert_mean(update.mean(0), matrices.b - matrices.A @ w)


@pytest.mark.parametrize("name", SAMPLED)
def test_observations_and_automatic_reset(name):
    c, history = exact(name), simulate(name)
    ended = history.step.terminated
    features = c.features.astype(np.float32)
    assert ended.any() == c.terminal.any()
    assert not history.step.truncated.any()
    assert not c.terminal[history.index].any()
    np.testing.assert_array_equal(history.obs, features[history.index])
    np.testing.assert_array_equal(history.step.obs, features[history.following])
    assert not history.step.final_obs[ended].any()
    np.testing.assert_array_equal(
        history.step.final_obs[~ended], history.step.obs[~ended]
    )
    assert (c.start[history.following[ended]] > 0).all()


NUM_DRAWS = 10_000


def draws(env, index: int, action: int, seed: int = 0) -> tuple[Any, Any]:
    """Steps from one state with different keys."""
    state = chain.ChainState(jnp.int32(index))
    keys = jax.random.split(jax.random.key(seed), NUM_DRAWS)
    return jitted_draws(env, keys, state, jnp.int32(action))


@partial(jax.jit, static_argnums=0)
def jitted_draws(env, keys, state, action):
    return jax.vmap(env.step, in_axes=(0, None, None))(keys, state, action)


def assert_outcomes(name: str, s: int, a: int, outcome: Any) -> None:
    """Next states, ends and rewards of steps from `s` with `a` follow the tables."""
    c = exact(name)
    row, ended, num = c.transition[s, a], outcome.terminated, len(outcome.index)
    assert_mean(ended, row @ c.terminal)
    assert_mean(outcome.reward, row @ c.reward[s, a])
    count = np.bincount(outcome.index[~ended], minlength=len(row))
    expected = np.where(c.terminal, 0.0, row)
    error = np.sqrt(expected * (1 - expected) / num)
    assert (np.abs(count / num - expected) <= 5 * error + 1e-9).all()


class Outcome(NamedTuple):
    """Samples of one row of the tables, `[num]`."""

    index: np.ndarray
    terminated: np.ndarray
    reward: np.ndarray


@pytest.mark.parametrize("name", [n for n in NAMES if "thousand" not in n])
def test_next_states_follow_the_transition_table(name):
    h = simulate(name)
    for s in np.flatnonzero(~exact(name).terminal):
        for a in range(chain.make(name).num_actions):
            here = (h.index == s) & (h.action == a)
            # The last state of the cliffwalk is rare, but leads to one state only.
            assert here.sum() > (25 if name == "blind_cliffwalk" else 400)
            columns = h.following, h.step.terminated, h.step.reward
            assert_outcomes(name, s, a, Outcome(*(x[here] for x in columns)))


@pytest.mark.parametrize("action", [0, 1])
@pytest.mark.parametrize("index", [1, 60, 500, 950])
def test_next_states_among_a_thousand(index, action):
    state, step = draws(chain.make("thousand_state"), index, action, seed=index)
    columns = state.index, step.terminated, step.reward
    outcome = Outcome(*(np.asarray(x) for x in columns))
    assert_outcomes("thousand_state", index, action, outcome)


def test_reset_draws_from_start():
    keys = jax.random.split(jax.random.key(3), 14_000)
    state, obs = jax.jit(jax.vmap(chain.make("baird").reset))(keys)
    count = np.bincount(np.asarray(state.index), minlength=7)
    assert np.abs(count / 2000 - 1).max() < 5 * np.sqrt(6 / 14_000)
    np.testing.assert_array_equal(
        obs, exact("baird").features.astype(np.float32)[state.index]
    )


def test_behaviour_policy_and_ratios():
    history = simulate("baird")
    ratio = np.where(history.action == 1, 7.0, 0.0)
    np.testing.assert_allclose(history.rho, ratio, rtol=1e-6)
    assert_mean(history.action.mean(0), np.array(1 / 7))
    assert (simulate("random_walk").rho == 1).all()
    assert chain.make("boyan").num_actions == 1


def test_two_steps_from_one_state_are_independent():
    """Double sampling: the joint frequency of two draws is the product of theirs."""
    env = chain.make("baird")
    assert env.resamples

    first, second, again = (
        np.asarray(draws(env, index=2, action=0, seed=seed)[0].index)
        for seed in (1, 2, 1)
    )
    np.testing.assert_array_equal(first, again)
    expected = NUM_DRAWS / 36
    joint = np.bincount(6 * first + second, minlength=36)
    chi_square = ((joint - expected) ** 2 / expected).sum()
    assert chi_square < 35 + 5 * np.sqrt(2 * 35)


def test_float_type_follows_the_precision():
    env = chain.make("thousand_state")
    assert env.observation == jax.ShapeDtypeStruct((10,), jnp.float32)
    with jax.enable_x64(True):
        wide = chain.make("boyan")
        state, obs = jax.jit(wide.reset)(jax.random.key(0))
        action, rho = wide.behaviour(jax.random.key(0), state)
        _, step = jax.jit(wide.step)(jax.random.key(1), state, action)
        kinds = {x.dtype for x in (obs, rho, step.reward, step.obs, step.final_obs)}
        assert kinds == {np.dtype("float64")} == {wide.observation.dtype}
    assert chain.make("boyan").observation.dtype == np.dtype("float32")


def test_a_chain_of_your_own():
    """Go on for a reward of 1 or stop; the policies stop with 1/4 and 1/2."""
    game = chain_answers.MarkovChain(
        transition=np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]),
        reward=np.array([[[1.0, 0.0], [0.0, 0.0]], np.zeros((2, 2))]),
        start=np.array([1.0, 0.0]),
        terminal=np.array([False, True]),
        discount=1.0,
        behaviour=np.array([[0.75, 0.25], [0.5, 0.5]]),
        target=np.full((2, 2), 0.5),
        features=np.array([[1.0], [0.0]]),
    )
    env = chain.environment("game", chain_answers.solve(game))
    np.testing.assert_allclose(chain_answers.expected_visits(env.exact), [4, 0])
    np.testing.assert_allclose(env.exact.values, [1, 0])
    np.testing.assert_allclose(env.exact.td_fixed_point, [1])
    _, step = env.step(jax.random.key(0), chain.ChainState(jnp.array(0)), jnp.array(1))
    assert step.terminated and step.reward == 0
