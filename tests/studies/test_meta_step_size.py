"""The tracking task and the noisy walk, and step sizes that are learned on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.studies import meta_step_size
from rl_grads.studies.meta_step_size import Setting

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def test_one_sign_changes_every_twenty_examples():
    data = meta_step_size.tracking(KEY, steps=400)
    x, y = np.asarray(data.s_tm1), np.asarray(data.r_t)
    assert x.shape == (400, 20)
    signs = []
    for k in range(20):
        now = slice(20 * k, 20 * k + 20)
        found, _, _, _ = np.linalg.lstsq(x[now, :5], y[now], rcond=None)
        signs.append(np.rint(found))
        np.testing.assert_allclose(x[now, :5] @ signs[-1], y[now], atol=1e-5)
    assert set(np.abs(signs).ravel()) == {1.0}
    assert set((np.diff(signs, axis=0) != 0).sum(-1)) == {1}
    assert not np.asarray(data.discount_t).any()


def test_the_walk():
    data = meta_step_size.noisy_walk(KEY, steps=5000)
    place = np.asarray(data.s_tm1)[:, :19]
    assert set(place.sum(-1)) == {1.0}
    ended = np.asarray(data.terminated)
    assert 20 < ended.sum() < 100  # About a hundred steps each.
    state = place.argmax(-1)
    assert set(state[1:][ended[:-1]]) == {9}
    assert set(state[ended]) == {0, 18}
    np.testing.assert_array_equal(
        np.asarray(data.r_t), np.where(ended, np.where(state == 0, -1.0, 1.0), 0.0)
    )
    # An ended episode has no next state; otherwise it is the next row's.
    assert not np.asarray(data.s_t)[ended, :19].any()
    on = ~ended[:-1]
    np.testing.assert_array_equal(data.s_t[:-1][on], data.s_tm1[1:][on])
    noise = np.asarray(data.s_tm1)[:, 19:]
    np.testing.assert_array_equal(data.s_t[:-1, 19:], noise[1:])
    assert noise.std() == pytest.approx(1.0, abs=0.02)


def one_hot_targets(steps=60, size=4):
    """A table of moving targets: no two inputs are active at once."""
    keys = jax.random.split(KEY)
    data = meta_step_size.tracking(keys[0], steps)
    which = jax.random.randint(keys[1], (steps,), 0, size)
    inputs = jax.nn.one_hot(which, size)
    return data._replace(s_tm1=inputs, s_t=inputs)


def test_idbd_is_forward_accumulation_on_a_table():
    """And so the general mechanism, through the agent's update, gives IDBD."""
    with jax.enable_x64(True):
        data = one_hot_targets()
        setting = Setting(0.2, 0.05)
        error = lambda square, weights: jnp.append(weights, square)  # noqa: E731
        found, expected = (
            jax.jit(lambda method=method: method(data, setting, error))()
            for method in (meta_step_size.by_meta_gradient, meta_step_size.by_tidbd)
        )
        np.testing.assert_allclose(found.errors, expected.errors[1:], rtol=1e-10)
        np.testing.assert_allclose(found.step_sizes, expected.step_sizes, rtol=1e-10)
        assert np.ptp(np.asarray(found.step_sizes)) > 0.01


def test_the_general_mechanism_knows_the_other_weights():
    """Its step sizes descend what finite differences say, also for dense inputs."""
    with jax.enable_x64(True):
        data = jax.tree.map(lambda x: x[:2], meta_step_size.tracking(KEY, 20))
        x, y = np.asarray(data.s_tm1), np.asarray(data.r_t)
        setting = Setting(0.05, 0.01)
        error = lambda square, weights: square  # noqa: E731
        found = jax.jit(lambda: meta_step_size.by_meta_gradient(data, setting, error))()

        def loss(beta):
            w = np.exp(beta) * y[0] * x[0]
            return 0.5 * (y[1] - w @ x[1]) ** 2

        beta, h = np.full(20, np.log(0.05)), 1e-6 * np.eye(20)
        slope = [(loss(beta + one) - loss(beta - one)) / 2e-6 for one in h]
        expected = np.exp(beta - 0.01 * np.array(slope))
        np.testing.assert_allclose(found.step_sizes, expected, rtol=1e-8)
        assert float(found.errors[0]) == pytest.approx(2 * loss(beta), rel=1e-10)


@pytest.mark.slow
def test_errors_of_an_independent_simulation():
    """Of 200 runs: least mean squares 3.363 at .035, IDBD 1.629 at theta = .005."""
    numbers = jnp.array([[0.035, 0.05], [0.0, 0.005], [0.0, 0.0]])
    found = meta_step_size.measure(
        meta_step_size.TRACKING, meta_step_size.by_tidbd, Setting(*numbers), seeds=6
    )
    lms, idbd = np.asarray(found.error).mean(1)
    assert lms == pytest.approx(3.36, abs=0.15)
    assert idbd == pytest.approx(1.63, abs=0.1)
    relevant, rest = np.split(np.asarray(found.step_sizes)[1], [5], axis=-1)
    assert relevant.min() > 4 * rest.max()
