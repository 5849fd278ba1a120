"""Wrappers, by hand on an environment whose every number is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.envs.environment import INSTANCES, Environment, Step
from rl_grads.envs.schema import Wrappers
from rl_grads.envs.wrappers import evaluated, wrap

KEY = jax.random.key(0)
OBSERVATIONS = jnp.array([[0.0, 10.0], [2.0, 10.0], [4.0, 40.0], [6.0, 20.0]])


class Clock(NamedTuple):
    time: jax.Array


def show(time):
    return OBSERVATIONS[time]


def three_steps():
    """Shows four observations in turn, then truncates; reward 1, -2, 3."""

    def reset(key):
        return Clock(jnp.int32(0)), show(0)

    def step(key, state, action):
        time = state.time + 1
        ended = time == 3
        reward = jnp.array([0.0, 1.0, -2.0, 3.0])[time]
        state = Clock(jnp.where(ended, 0, time))
        result = Step(show(state.time), reward, jnp.array(False), ended, show(time))
        return state, result

    return Environment(
        name="three_steps",
        reset=reset,
        step=step,
        observation=jax.ShapeDtypeStruct((2,), jnp.float32),
        num_actions=2,
        time_limit=3,
        behaviour=lambda key, state: (state.time, jnp.float32(1.0)),
        exact="the answers",
    )


def run_all(environment, num_steps, instances):
    """Results of instances that act in step, `[steps, instances, ...]`."""
    keys = jax.random.split(KEY, instances)
    reset, step = (
        jax.vmap(f, axis_name=INSTANCES)
        for f in (environment.reset, lambda *x: environment.step(*x, jnp.int32(0)))
    )
    state, obs = reset(keys)
    results = []
    for _ in range(num_steps):
        state, result = step(keys, state)
        results.append(result)
    return state, obs, jax.tree.map(lambda *x: np.stack(x), *results)


def run(environment, num_steps):
    """One instance alone."""
    state, obs, results = run_all(environment, num_steps, 1)
    return *jax.tree.map(lambda x: x[0], (state, obs)), squeezed(results)


def squeezed(results):
    return jax.tree.map(lambda x: x[:, 0], results)


def test_nothing_wrapped_is_the_same_object():
    environment = three_steps()
    assert wrap(environment, Wrappers()) is environment
    assert evaluated(environment, None) is environment


def test_rewards_are_scaled_then_clipped():
    environment = wrap(three_steps(), Wrappers(reward_scale=0.5, reward_clip=1.25))
    _, _, results = run(environment, 4)
    assert results.reward.tolist() == [0.5, -1.0, 1.25, 0.5]
    assert results.reward.dtype == np.float32
    assert environment.exact is None


@pytest.mark.parametrize(
    ("wrappers", "rewards"),
    [
        (Wrappers(reward_scale=-3.0), [-3.0, 6.0, -9.0]),
        (Wrappers(reward_clip=1.5), [1.0, -1.5, 1.5]),
    ],
)
def test_one_reward_wrapper_alone_and_raw_rewards_in_evaluation(wrappers, rewards):
    environment = wrap(three_steps(), wrappers)
    state, _, results = run(environment, 3)
    assert results.reward.tolist() == rewards
    _, _, results = run(evaluated(environment, state), 3)
    assert results.reward.tolist() == [1.0, -2.0, 3.0]


def test_reward_numbers_may_be_tracers():
    traces = []

    @jax.jit
    def total(scale, clip):
        traces.append(1)
        wrappers = Wrappers(reward_scale=scale, reward_clip=clip)
        environment = wrap(three_steps(), wrappers)
        state, _ = environment.reset(KEY)
        return environment.step(KEY, state, jnp.int32(0))[1].reward

    assert total(0.5, 1.0) == 0.5
    assert total(3.0, 2.0) == 2.0
    assert len(traces) == 1
    assert jax.grad(total)(0.5, 1.0) == 1.0


def test_frames_are_stacked_within_an_episode():
    environment = wrap(three_steps(), Wrappers(frame_stack=3))
    assert environment.observation == jax.ShapeDtypeStruct((2, 3), jnp.float32)
    state, obs, results = run(environment, 4)
    assert obs.tolist() == [[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]]
    first = results.final_obs[:, 0].tolist()
    assert first == [[0, 0, 2], [0, 2, 4], [2, 4, 6], [0, 0, 2]]
    assert results.obs[:, 0].tolist() == [[0, 0, 2], [0, 2, 4], [0, 0, 0], [0, 0, 2]]
    assert environment.behaviour is not None
    assert environment.behaviour(KEY, state)[0] == 1
    assert (environment.time_limit, environment.exact) == (3, None)
    assert environment.evaluation is None


def test_bytes_stay_bytes_in_a_stack():
    raw = three_steps()
    bytes_ = raw._replace(
        reset=lambda key: (Clock(jnp.int32(0)), jnp.zeros((4, 4, 2), jnp.uint8)),
        observation=jax.ShapeDtypeStruct((4, 4, 2), jnp.uint8),
    )
    environment = wrap(bytes_, Wrappers(frame_stack=2))
    _, obs = environment.reset(KEY)
    assert obs.shape == environment.observation.shape == (4, 4, 2, 2)
    assert obs.dtype == environment.observation.dtype == jnp.uint8


def test_observations_are_normalised_by_what_was_seen():
    environment = wrap(three_steps(), Wrappers(normalise_observation=0.25))
    _, obs, results = run(environment, 3)
    # First component: 0 | 0 2 | 0 2 4 | 0 2 4 6 0, with that of the reset.
    assert obs.tolist() == [0.0, 0.0]
    expected = [
        (2 - 1) / np.sqrt(1 + 0.25),
        (4 - 2) / np.sqrt(8 / 3 + 0.25),
        (6 - 2.4) / np.sqrt(5.44 + 0.25),
    ]
    np.testing.assert_allclose(results.final_obs[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(results.obs[:2, 0], expected[:2], rtol=1e-6)
    start = (0 - 2.4) / np.sqrt(5.44 + 0.25)
    np.testing.assert_allclose(results.obs[2, 0], start, rtol=1e-6)


def test_instances_are_normalised_by_what_all_of_them_saw():
    """The first shows 0, 2, 4, the second the same from 6 on: 6, 8, 10."""

    def shifted():
        raw = three_steps()

        def reset(key):
            shift = 6.0 * jax.lax.axis_index(INSTANCES)
            state, obs = raw.reset(key)
            return (state, shift), obs + shift

        def step(key, state, action):
            inner, result = raw.step(key, state[0], action)
            obs = (result.obs + state[1], result.final_obs + state[1])
            result = result._replace(obs=obs[0], final_obs=obs[1])
            return (inner, state[1]), result

        return raw._replace(reset=reset, step=step)

    environment = wrap(shifted(), Wrappers(normalise_observation=0.25))
    _, obs, results = run_all(environment, 2, 2)
    deviation = np.sqrt(9 + 0.25)  # of 0 and 6 about 3
    np.testing.assert_allclose(obs[:, 0], [-3 / deviation, 3 / deviation], rtol=1e-6)
    deviation = np.sqrt(10 + 0.25)  # of 0, 2, 6, 8 about 4
    np.testing.assert_allclose(
        results.obs[0, :, 0], [-2 / deviation, 4 / deviation], rtol=1e-6
    )
    deviation = np.sqrt(35 / 3 + 0.25)  # of 0, 2, 4, 6, 8, 10 about 5
    np.testing.assert_allclose(
        results.final_obs[1, :, 0], [-1 / deviation, 5 / deviation], rtol=1e-6
    )


def test_evaluation_uses_the_frozen_statistics_of_all_instances():
    environment = wrap(three_steps(), Wrappers(normalise_observation=0.25))
    short, _, _ = run(environment, 1)  # has seen 0, 2
    long, _, _ = run(environment, 2)  # has seen 0, 2, 4
    states = jax.tree.map(lambda *x: jnp.stack(x), short, long)
    judged = evaluated(environment, states)
    _, obs, results = run(judged, 3)
    deviation = np.sqrt(2.24 + 0.25)  # of 0, 2, 0, 2, 4 about 1.6
    np.testing.assert_allclose(obs[0], -1.6 / deviation, rtol=1e-6)
    raw = np.array([2.0, 4.0, 6.0])
    np.testing.assert_allclose(
        results.final_obs[:, 0], (raw - 1.6) / deviation, rtol=1e-6
    )
    np.testing.assert_allclose(results.obs[2, 0], -1.6 / deviation, rtol=1e-6)
    assert judged.evaluation is None


def test_evaluation_passes_through_every_wrapper():
    wrappers = Wrappers(
        reward_scale=0.1, reward_clip=0.1, frame_stack=2, normalise_observation=0.25
    )
    environment = wrap(three_steps(), wrappers)
    state, _, _ = run(environment, 1)
    states = jax.tree.map(lambda x: x[None], state)
    judged = evaluated(environment, states)
    assert judged.observation == environment.observation
    judged_state, obs, results = run(judged, 3)
    deviation = np.sqrt(1 + 0.25)  # of 0, 2 about 1
    scaled = (np.array([0.0, 2.0, 4.0, 6.0]) - 1) / deviation
    np.testing.assert_allclose(obs[0], scaled[[0, 0]], rtol=1e-6)
    stacks = scaled[np.array([[0, 1], [1, 2], [2, 3]])]
    np.testing.assert_allclose(results.final_obs[:, 0], stacks, rtol=1e-6)
    np.testing.assert_allclose(results.obs[2, 0], scaled[[0, 0]], rtol=1e-6)
    assert results.reward.tolist() == [1.0, -2.0, 3.0]
    assert judged.behaviour is not None
    assert judged.behaviour(KEY, judged_state)[0] == 0


def test_all_wrappers_run_vmapped_in_a_scan():
    wrappers = Wrappers(
        reward_scale=2.0, reward_clip=1.0, frame_stack=2, normalise_observation=1e-8
    )
    environment = wrap(three_steps(), wrappers)

    def roll(key):
        state, _ = environment.reset(key)
        return jax.lax.scan(
            lambda s, k: environment.step(k, s, jnp.int32(0)),
            state,
            jax.random.split(key, 6),
        )

    rolls = jax.jit(jax.vmap(roll, axis_name=INSTANCES))
    state, results = rolls(jax.random.split(KEY, 3))
    assert results.obs.shape == (3, 6, 2, 2)
    assert state.inner.statistics.count.high.tolist() == [9, 9, 9]
    assert results.truncated[0].tolist() == [False, False, True] * 2
    judged = evaluated(environment, state)
    # Of 0, 2, 4, 6, 0, 2, 4, 6, 0: mean 8/3, variance 112/9 - 64/9.
    start = -8 / 3 / np.sqrt(48 / 9)
    np.testing.assert_allclose(judged.reset(KEY)[1][0, 0], start, rtol=1e-6)
