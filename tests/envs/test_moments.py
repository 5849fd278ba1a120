"""Running moments: those of the sample, however long it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.envs.environment import INSTANCES, Environment, Step
from rl_grads.envs.moments import Statistics, merge, none_yet, observe
from rl_grads.envs.wrappers import normalise_observation
from rl_grads.long import Long


def long(value):
    high = np.float32(value)
    return Long(jnp.asarray(high), jnp.asarray(np.float32(value - float(high))))


def late(count, mean, variance):
    """The state after so many numbers."""
    return Statistics(long(count), long(mean), long(variance))


def number(value):
    return float(value.high) + float(value.low)


@jax.jit
def observe_pairs(statistics, pairs, distance):
    """See -distance and +distance in turn."""

    def step(_, statistics):
        return observe(observe(statistics, -distance), distance)

    return jax.lax.fori_loop(0, pairs, step, statistics)


def test_running_moments_are_those_of_the_sample():
    sample = np.random.default_rng(0).normal(3.0, 2.0, (40, 3)).astype(np.float32)
    parts = [none_yet((3,)), none_yet((3,))]
    for i, row in enumerate(sample):
        parts[i % 3 == 0] = observe(parts[i % 3 == 0], jnp.asarray(row))
    assert [float(part.count.high) for part in parts] == [26.0, 14.0]
    together = merge(jax.tree.map(lambda *x: jnp.stack(x), *parts))
    np.testing.assert_allclose(together.mean, sample.mean(0), rtol=1e-6)
    np.testing.assert_allclose(together.variance, sample.var(0), rtol=1e-6)


def test_merged_moments_by_hand():
    """{1} and {3, 8}: mean 4, squared distances 9 + 1 + 16."""
    zero = jnp.zeros(2)
    apart = Statistics(
        Long(jnp.array([1.0, 2.0]), zero),
        Long(jnp.array([[1.0], [5.5]]), zero[:, None]),
        Long(jnp.array([[0.0], [6.25]]), zero[:, None]),
    )
    mean, variance = merge(apart)
    np.testing.assert_allclose(mean, [4.0], rtol=1e-6)
    np.testing.assert_allclose(variance, [26 / 3], rtol=1e-6)


@pytest.mark.parametrize("start", [2**24 - 4, 2**31 - 4, 10**10 + 1])
def test_every_number_counts(start):
    """After so many of mean 0 and variance 1 come 400,000 of variance 4."""
    more = 400_000
    state = observe_pairs(late(start, 0.0, 1.0), more // 2, jnp.float32(2.0))
    assert number(state.count) == start + more
    wanted = (start + 4 * more) / (start + more)
    # The part of the change, which float32 cannot hold for the last of the starts.
    np.testing.assert_allclose(number(state.variance) - 1, wanted - 1, rtol=1e-3)
    np.testing.assert_allclose(number(state.variance), wanted, rtol=1e-7)
    np.testing.assert_allclose(number(state.mean), 0.0, atol=1e-7)


def test_moments_of_more_numbers_than_float32_counts():
    count = 3 * 2**23  # 1.5 times 2**24.
    state = observe_pairs(none_yet(()), count // 2, jnp.float32(1.0))
    assert number(state.count) == count
    np.testing.assert_allclose(number(state.variance), 1.0, rtol=1e-6)


def test_an_environment_is_normalised_by_ten_billion_observations():
    """Many instances: what all have seen is beyond 2**31, too."""

    def reset(key):
        return jnp.float32(0), jnp.float32(5.0)

    def step(key, state, action):
        no = jnp.array(False)
        return state, Step(state + 5.0, jnp.float32(0), no, no, state + 5.0)

    shape = jax.ShapeDtypeStruct((), jnp.float32)
    raw = Environment("five", reset, step, shape, num_actions=1, time_limit=None)
    made = normalise_observation(raw, 0.0)
    keys = jax.random.split(jax.random.key(0), 5)
    state, _ = jax.vmap(made.reset, axis_name=INSTANCES)(keys)
    seen = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (5, *x.shape)), late(2e9, 1.0, 4.0)
    )
    state = state._replace(statistics=seen)
    act = jax.vmap(made.step, axis_name=INSTANCES)
    state, out = act(keys, state, jnp.zeros(5, jnp.int32))
    np.testing.assert_allclose(out.obs, [2.0] * 5, rtol=1e-6)  # (5 - 1) / sqrt(4)
    count = state.statistics.count
    assert (float(count.high[4]), float(count.low[4])) == (2e9, 1.0)
    assert made.evaluation is not None
    _, obs = made.evaluation(state).reset(keys[0])
    np.testing.assert_allclose(obs, 2.0, rtol=1e-6)
