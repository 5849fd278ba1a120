"""TIDBD against the loops of its papers, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.td import tidbd, traces
from rl_grads.td.transition import Transition

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("double_precision")]

T, D = 40, 3


def stream(discount):
    random = np.random.default_rng(0)
    terminated = random.random(T) < 0.15
    return Transition(
        s_tm1=jnp.asarray(random.normal(size=(T, D))),
        a_tm1=jnp.zeros(T, jnp.int32),
        r_t=jnp.asarray(random.normal(size=T)),
        s_t=jnp.asarray(random.normal(size=(T, D))),
        terminated=jnp.asarray(terminated),
        truncated=jnp.zeros(T, bool),
        discount_t=jnp.asarray(discount * (1.0 - terminated)),
        rho=jnp.ones(T),
    )


def learn(transitions, step_size, settings):
    def step(carry, transition):
        params, state = carry
        new = tidbd.tidbd(jnp.dot, state, params, transition, settings)
        return (new.params, new.state), new.td_error

    w = jnp.zeros(D)
    begin = (w, tidbd.start(w, step_size))
    return jax.jit(lambda: jax.lax.scan(step, begin, transitions))()


def test_without_discount_and_lambda_it_is_idbd():
    """Sutton 1992, figure 2, line by line."""
    data = stream(discount=0.0)
    theta, w, h, beta = 0.1, np.zeros(D), np.zeros(D), np.full(D, np.log(0.1))
    deltas = []
    for x, target in zip(np.asarray(data.s_tm1), np.asarray(data.r_t), strict=True):
        delta = target - w @ x
        for i in range(D):
            beta[i] += theta * delta * x[i] * h[i]
            alpha = np.exp(beta[i])
            w[i] += alpha * delta * x[i]
            h[i] = h[i] * max(0.0, 1 - alpha * x[i] ** 2) + alpha * delta * x[i]
        deltas.append(delta)
    (params, state), found = learn(data, 0.1, tidbd.Settings(theta))
    np.testing.assert_allclose(found, deltas, rtol=1e-12)
    np.testing.assert_allclose(params, w, rtol=1e-12)
    np.testing.assert_allclose(state.log_step, beta, rtol=1e-12)
    assert np.ptp(beta) > 0.1


def test_against_the_published_loop():
    """Kearney et al. 2018, algorithm 1; the trace is cut where an episode ends."""
    data, decay, theta = stream(discount=0.9), 0.7, 0.05
    rows = [np.asarray(leaf) for leaf in (data.s_tm1, data.r_t, data.discount_t)]
    w, h, z, beta = np.zeros(D), np.zeros(D), np.zeros(D), np.full(D, np.log(0.05))
    before = 0.0
    for x, r, discount, after in zip(*rows, np.asarray(data.s_t), strict=True):
        delta = r + discount * (w @ after) - w @ x
        beta += theta * delta * x * h
        alpha = np.exp(beta)
        z = before * decay * z + x
        w = w + alpha * delta * z
        h = h * np.maximum(0.0, 1 - alpha * x * z) + alpha * delta * z
        before = discount
    (params, state), _ = learn(data, 0.05, tidbd.Settings(theta, decay))
    np.testing.assert_allclose(params, w, rtol=1e-12)
    np.testing.assert_allclose(state.log_step, beta, rtol=1e-12)
    np.testing.assert_allclose(state.slope, h, rtol=1e-12)


def test_without_meta_steps_it_is_td_lambda():
    data, decay, rate = stream(discount=0.9), 0.7, 0.05

    def step(carry, transition):
        w, trace = carry
        numbers = traces.Settings("accumulating", decay, rate)
        found = traces.td_lambda(jnp.dot, trace, w, w, transition, numbers)
        return (w - rate * found.direction, found.trace), None

    w = jnp.zeros(D)
    program = jax.jit(lambda: jax.lax.scan(step, (w, traces.start(w)), data))
    (expected, _), _ = program()
    (params, state), _ = learn(data, rate, tidbd.Settings(0.0, decay))
    np.testing.assert_allclose(params, expected, rtol=1e-12)
    np.testing.assert_allclose(jnp.exp(state.log_step), rate, rtol=1e-12)


def test_a_step_too_long_forgets_the_past():
    x, no = jnp.array([2.0]), jnp.bool_(False)
    one = Transition(x, 0, 3.0, x, no, no, 0.0, 1.0)
    state = tidbd.start(jnp.zeros(1), 0.5)._replace(slope=jnp.array([7.0]))
    after = tidbd.tidbd(jnp.dot, state, jnp.zeros(1), one, tidbd.Settings(0.0))
    # 1 - 0.5 * 2 * 2 < 0, so that only 0.5 * 3 * 2 is left.
    assert after.state.slope.tolist() == [3.0]
