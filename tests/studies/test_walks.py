"""Walks in common: against the agents' own updates and against exact numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, NStepTD, TDLambda
from rl_grads.envs.chain import make
from rl_grads.gradients.schema import SGD
from rl_grads.studies import walks
from rl_grads.training import compilation
from rl_grads.training.engine import make_agent

pytestmark = pytest.mark.slow

EPISODES, RUNS = 3, 5


@pytest.fixture(scope="module")
def common():
    return walks.sample(make("random_walk"), RUNS, EPISODES, seed=1)


def run(common, k):
    """The transitions of one run up to its last episode's end, with their episodes."""
    length = np.flatnonzero(common.episode[:, k] == EPISODES - 1)[0] + 1
    steps = jax.tree.map(lambda leaf: np.asarray(leaf[:length, k]), common.steps)
    return steps, common.episode[:length, k]


def test_walks_are_those_of_the_chain(common):
    for k in range(RUNS):
        steps, episode = run(common, k)
        assert sorted(episode[episode >= 0]) == list(range(EPISODES))
        np.testing.assert_array_equal(episode >= 0, steps.terminated)
        inside, begins = steps.s_t[~steps.terminated], steps.s_t[steps.terminated]
        moved = inside - steps.s_tm1[~steps.terminated]
        np.testing.assert_array_equal(np.abs(moved), 1)
        np.testing.assert_array_equal(begins, 3)
        np.testing.assert_array_equal(steps.s_tm1[1:], steps.s_t[:-1])
        np.testing.assert_array_equal(steps.r_t, steps.terminated & (steps.s_tm1 == 5))
        np.testing.assert_array_equal(steps.discount_t, 1 - steps.terminated)
    np.testing.assert_allclose(common.values[1:-1], np.arange(1, 6) / 6)
    assert np.isnan(common.values[[0, -1]]).all()


def test_runs_fill_up_the_devices_and_differ_by_seed(common):
    assert common.steps.r_t.shape[1] == RUNS + 1  # There are two devices.
    assert common.layout.members == RUNS
    other = walks.sample(make("random_walk"), RUNS, EPISODES, seed=2)
    short = min(len(common.episode), len(other.episode))
    assert (common.steps.s_t[:short] != other.steps.s_t[:short]).any()


def test_a_chain_without_an_end_is_refused():
    with pytest.raises(ValueError, match="chain/baird: expected a Markov chain"):
        walks.sample(make("baird"), 2, 1)


# ------------------------------------------------------------------ against the agents


def by_agent(agent, common, step_size):
    """Errors at the ends of episodes `[runs, episodes]`, learned by an agent."""
    environment = make("random_walk")
    config = rg.Config(
        agent=agent,
        network=Linear(initial_value=0.5),
        optimizer=SGD(learning_rate=step_size),
        replay=None,
    )
    made = make_agent(config, environment)
    features = np.asarray(environment.exact.features, np.float32)
    update = jax.jit(lambda state, one: made.update(state, one, None, config)[0])
    errors = []
    for k in range(RUNS):
        state = made.init(jax.random.key(0), jnp.asarray(features[1]), config)
        steps, episode = run(common, k)
        batch = steps._replace(s_tm1=features[steps.s_tm1], s_t=features[steps.s_t])
        for t, ends in enumerate(episode):
            state = update(state, jax.tree.map(lambda x, t=t: x[t : t + 1], batch))
            if ends >= 0:
                off = np.asarray(state.params["w"][0]) - np.arange(1, 6) / 6
                errors.append(np.sqrt(np.mean(off**2)))
    return np.reshape(errors, (RUNS, EPISODES))


METHODS = {
    "1 step": (NStepTD(n_step=1), walks.TD, 0),
    "4 steps": (NStepTD(n_step=4), walks.TD, 2),
    "accumulating": (TDLambda(trace_decay=0.8), walks.td_lambda("accumulating"), None),
    "replacing": (
        TDLambda(trace="replacing", trace_decay=0.8),
        walks.td_lambda("replacing"),
        None,
    ),
    "true online": (
        TDLambda(trace="true_online", trace_decay=0.8),
        walks.td_lambda("true_online"),
        None,
    ),
}


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("name", METHODS)
def test_errors_are_those_of_the_agents(name, common):
    agent, method, power = METHODS[name]
    steps = common if power is None else list(walks.doublings(common, 3))[power][1]
    setting = walks.Setting(np.array([0.25, 0.1]), 0.8)
    found = walks.episode_errors(steps, method, setting, initial_value=0.5)
    expected = by_agent(agent, common, 0.25).mean(0)
    np.testing.assert_allclose(found[0], expected, rtol=2e-5)
    assert np.abs(found[1] - found[0]).max() > 1e-3


def test_monte_carlo_moves_to_the_returns(common):
    whole = walks.monte_carlo(common)
    steps, episode = run(whole, 0)
    one, _ = run(common, 0)
    ends = np.flatnonzero(episode >= 0)
    end_of = ends[np.searchsorted(ends, np.arange(len(episode)))]
    np.testing.assert_array_equal(steps.r_t, one.r_t[end_of])
    assert not steps.discount_t.any()


# ---------------------------------------------------------------------- exact numbers


def test_the_mean_error_of_nothing_learned():
    common = walks.sample(make("random_walk_19"), 2, 2)
    found = walks.episode_errors(common, walks.TD, walks.Setting(np.zeros(1)))
    exact = np.sqrt(np.mean((np.arange(-9, 10) / 10) ** 2))
    np.testing.assert_allclose(found, np.full((1, 2), exact), rtol=1e-6)


# Root mean square error over states and walks after so many episodes of TD(0) with
# step size 0.1, in closed form.
CLOSED_FORM = {0: 0.22223611067711055, 9: 0.12864966524124888}


def test_td_on_the_five_state_walk_has_the_exact_error():
    runs = 4000
    common = walks.sample(make("random_walk"), runs, 10)
    setting = walks.Setting(np.array([0.1]))
    found = walks.episode_errors(common, walks.TD, setting, initial_value=0.5)[0]
    for episode, exact in CLOSED_FORM.items():
        # The mean of roots lies below the root of the mean, by the variance's part.
        assert 0.95 * exact < found[episode] <= exact


@pytest.mark.slow
def test_the_figures_of_the_nineteen_state_walk():
    common = walks.sample(make("random_walk_19"), 1000, 10)
    step_sizes = np.linspace(0, 1, 11)
    setting = walks.Setting(step_sizes)
    before, best = compilation.seconds(), {}
    for n, steps in walks.doublings(common, 10):
        error = walks.episode_errors(steps, walks.TD, setting).mean(-1)
        best[n] = (error.min(), step_sizes[error.argmin()])
        if n == 2:
            before = compilation.seconds()
    assert compilation.seconds() == before  # One program for every n.
    assert min(best) == 1 and min(best, key=best.get) == 4
    assert best[4] == pytest.approx((0.265, 0.4), abs=0.003)
    by_decay = {}
    for decay in (0.0, 0.4, 0.8, 0.9, 0.95):
        setting = walks.Setting(step_sizes, decay)
        method = walks.td_lambda("accumulating")
        error = walks.episode_errors(common, method, setting).mean(-1)
        by_decay[decay] = (np.nanmin(error), step_sizes[np.nanargmin(error)])
    assert min(by_decay, key=by_decay.get) == 0.8
    assert by_decay[0.8] == pytest.approx((0.2629, 0.3), abs=0.005)
