"""n-step TD as an agent: its window, the ends of episodes, many environments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.pages.n_step_td import from_config
from rl_grads.agents.schema import Linear, NStepTD
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.td.transition import Transition

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compiler")]

START = (0.5, -1.0, 2.0)
DISCOUNT, STEP_SIZE = 0.9, 0.5


def config(n_step=3, changes=None, optimizer=None):
    base = rg.Config(
        agent=NStepTD(n_step=n_step, discount=DISCOUNT),
        network=Linear(initial_weights=START),
        optimizer=optimizer or SGD(learning_rate=STEP_SIZE),
        replay=None,
    )
    return rg.replace(base, changes or {})


def batch(states, rewards, ended):
    """One-hot transitions from a path of states; `states[t + 1]` follows `states[t]`.

    `ended` gives each transition 0, 1 (terminated) or 2 (truncated).
    """
    rows, ended, size = jnp.eye(3)[jnp.array(states)], np.array(ended), len(rewards)
    return Transition(
        s_tm1=rows[:-1],
        a_tm1=jnp.zeros(size, jnp.int32),
        r_t=jnp.asarray(rewards, float),
        s_t=rows[1:],
        terminated=jnp.asarray(ended == 1),
        truncated=jnp.asarray(ended == 2),
        discount_t=jnp.asarray(DISCOUNT * (ended != 1), jnp.float32),
        rho=jnp.ones(size),
    )


# Two episodes and the beginning of a third; the first terminates, the second is cut.
PATH = batch(
    [0, 1, 2, 1, 0, 2, 0, 1, 2, 2],
    [1.0, -1.0, 2.0, 0.5, 1.5, -0.5, 1.0, 3.0, -2.0],
    [0, 0, 0, 1, 0, 2, 0, 0, 0],
)


def textbook(transitions, n, w):
    """n-step TD as the pseudocode has it (Sutton & Barto 2018, section 7.1)."""
    w, first = np.array(w), 0
    s, last = np.argmax(transitions.s_tm1, 1), np.argmax(transitions.s_t, 1)
    ends = np.asarray(transitions.terminated | transitions.truncated)
    for now in range(len(s)):
        stop = now + 1 if ends[now] else now + 2 - n
        for tau in range(first, stop):
            target = w[last[now]]
            for k in reversed(range(tau, now + 1)):
                discount = float(transitions.discount_t[k])
                target = float(transitions.r_t[k]) + discount * target
            w[s[tau]] += STEP_SIZE * (target - w[s[tau]])
        first = max(first, stop)
    return w


def run(the, *batches):
    agent = from_config(the, num_actions=2)
    state = agent.init(jax.random.key(0), jnp.ones(3), the)
    update = jax.jit(lambda state, batch: agent.update(state, batch, None, the))
    for one in batches:
        state, report = update(state, one)
    return state, report


def part(transitions, start, stop):
    return jax.tree.map(lambda leaf: leaf[start:stop], transitions)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_it_is_the_textbooks_algorithm(n):
    state, _ = run(config(n), PATH)
    expected = textbook(PATH, n, START)
    np.testing.assert_allclose(state.params["w"][0], expected, rtol=1e-5)


def test_a_batch_may_end_anywhere():
    whole, _ = run(config(), PATH)
    split, _ = run(config(), part(PATH, 0, 2), part(PATH, 2, 5), part(PATH, 5, 9))
    np.testing.assert_array_equal(whole.params["w"], split.params["w"])
    assert int(whole.updates) == int(split.updates) == 7  # Two steps are pending.


def test_more_steps_than_an_episode_has_are_monte_carlo():
    episode = part(PATH, 0, 4)
    state, _ = run(config(10), episode)
    w, rewards = np.array(START), np.asarray(episode.r_t)
    for t, s in enumerate([0, 1, 2, 1]):
        target = sum(DISCOUNT**k * r for k, r in enumerate(rewards[t:]))
        w[s] += STEP_SIZE * (target - w[s])
    np.testing.assert_allclose(state.params["w"][0], w, rtol=1e-5)


def test_a_truncated_return_bootstraps_and_a_terminated_one_does_not():
    for end, target in ((2, 1 + 0.9 * (2 + 0.9 * 2.0)), (1, 1 + 0.9 * 2)):
        episode = batch([0, 1, 2], [1.0, 2.0], [0, end])
        state, _ = run(config(5), episode)
        expected = 0.5 + STEP_SIZE * (target - 0.5)
        assert float(state.params["w"][0, 0]) == pytest.approx(expected, rel=1e-6)


def test_nothing_moves_before_a_return_is_complete():
    the = config(3, optimizer=Adam(learning_rate=0.1))
    state, report = run(the, part(PATH, 0, 2))
    assert state.params["w"][0].tolist() == list(START)
    assert int(state.updates) == 0
    assert not state.optimizer[0].mu["w"].any()
    assert {float(x) for x in report.metrics.values()} == {0.0}
    state, _ = run(the, part(PATH, 0, 3))
    assert int(state.updates) == 1
    assert float(state.params["w"][0, 0]) == pytest.approx(0.6, rel=1e-5)


def test_metrics_are_sums_over_the_completed_returns_per_transition():
    # Errors: 1 + 0.9 * 2 - 0.5 = 2.3 and 2 - (-1) = 3.
    episode = batch([0, 1, 2], [1.0, 2.0], [0, 1])
    _, report = run(config(5), episode)
    measured = {name: float(value) for name, value in report.metrics.items()}
    assert measured == pytest.approx(
        {
            "loss/td_error_abs": (2.3 + 3.0) / 2,
            "loss/td_error_square": (2.3**2 + 3.0**2) / 2,
            "gradient/norm": (2.3 + 3.0) / 2,
        }
    )
    np.testing.assert_allclose(report.signals.td_error, [0.0, 2.3], rtol=1e-6)


def test_each_environment_has_its_own_window():
    # The second environment lives in other states, so the two do not meet.
    one = batch([0, 1, 0, 1, 0], [1.0, 2.0, 3.0, 4.0], [0, 0, 1, 0])
    two = batch([2, 2, 2, 2, 2], [5.0, 6.0, 7.0, 8.0], [0, 1, 0, 0])
    both = jax.tree.map(
        lambda a, b: jnp.stack([a, b], 1).reshape(8, *a.shape[1:]), one, two
    )
    state, _ = run(config(2, {"training.num_envs": 2}), both)
    # The mean over two environments halves the step size.
    halved = config(2, {"optimizer.learning_rate": STEP_SIZE / 2})
    alone = [run(halved, path)[0].params["w"][0] for path in (one, two)]
    expected = [alone[0][0], alone[0][1], alone[1][2]]
    np.testing.assert_allclose(state.params["w"][0], expected, rtol=1e-6)


def test_off_policy_a_return_is_weighted_by_the_product_of_its_ratios():
    episode = batch([0, 1, 2], [1.0, 2.0], [0, 1])
    episode = episode._replace(rho=jnp.array([0.5, 0.25]))
    state, _ = run(config(5), episode)
    expected = [0.5 + 0.5 * 0.125 * 2.3, -1 + 0.5 * 0.25 * 3.0, 2.0]
    np.testing.assert_allclose(state.params["w"][0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "num_envs", "message"),
    [
        (jnp.ones(9), 1, r"weights: expected None, .* got weights of shape \(9,\)"),
        (None, 2, "batch: expected a multiple of num_envs=2 transitions, got 9"),
    ],
)
def test_what_is_not_in_order_is_refused(weights, num_envs, message):
    the = config(2, {"training.num_envs": num_envs})
    agent = from_config(the, num_actions=2)
    state = agent.init(jax.random.key(0), jnp.ones(3), the)
    with pytest.raises(ValueError, match=message):
        agent.update(state, PATH, weights, the)


# ------------------------------------------------------------------- through training


@pytest.mark.parametrize("num_envs", [1, 3])
def test_one_step_is_td(num_envs, check_is_td):
    check_is_td(NStepTD(n_step=1, discount=0.9), {"training.num_envs": num_envs})
