"""The clip of single examples: by hand, its report, and its way from the config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import config as configs
from rl_grads import register
from rl_grads.agents import q_learning
from rl_grads.agents.schema import Prediction, TDLambda
from rl_grads.config import ConfigError
from rl_grads.envs import make
from rl_grads.gradients import per_example_clip as module
from rl_grads.gradients.estimators import About
from rl_grads.gradients.per_example_clip import per_example_clip
from rl_grads.gradients.schema import Gradient, PerExampleClip
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.checks import needs
from rl_grads.training.schema import Config

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
# Gradients (-3, 0), (0, -4), (-6, -8); norms 3, 4, 10.
BATCH = jnp.array([[3.0, 0.0], [0.0, 4.0], [6.0, 8.0]])
PARAMS = jnp.zeros(2)


def loss(params, bootstrap_params, x, config):
    return -params @ x, Signals(x[0])


def config(**clip):
    return Config(gradient=Gradient(per_example=PerExampleClip(**clip)))


def estimate(weights=None, batch=BATCH, state=None, **clip):
    estimator = per_example_clip()

    def update(state, batch):
        about = About(loss, PARAMS, PARAMS, batch, weights, config(**clip))
        return estimator.update(state, KEY, about)

    return jax.jit(update)(state or estimator.init(PARAMS), batch)


def test_by_hand():
    gradient, signals, state = estimate(max_norm=5.0)
    np.testing.assert_allclose(gradient, [-2.0, -8 / 3], rtol=1e-6)
    np.testing.assert_allclose(signals.gradient_norm, [3.0, 4.0, 10.0], rtol=1e-6)
    receipt = state.receipt
    np.testing.assert_allclose(receipt.fraction, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(receipt.norm_before, 17 / 3, rtol=1e-6)
    np.testing.assert_allclose(receipt.norm_after, 4.0, rtol=1e-6)
    # Means (-3, -4) and (-2, -8/3) have the same direction; a third is gone.
    np.testing.assert_allclose(receipt.angle, 0.0, atol=1e-4)
    np.testing.assert_allclose(state.bias, 1 / 3, rtol=1e-6)


def test_a_clip_comes_before_the_weight():
    gradient, _, state = estimate(jnp.array([1.0, 2.0, 0.5]), max_norm=3.5)
    # (-3, 0) + 2 * (0, -3.5) + 0.5 * (-2.1, -2.8), and without: (-6, -12).
    np.testing.assert_allclose(gradient, [-4.05 / 3, -8.4 / 3], rtol=1e-6)
    plain, clipped = np.array([-6.0, -12.0]), np.array([-4.05, -8.4])
    bias = np.linalg.norm(plain - clipped) / np.linalg.norm(plain)
    np.testing.assert_allclose(state.bias, bias, rtol=1e-5)
    cosine = plain @ clipped / np.linalg.norm(plain) / np.linalg.norm(clipped)
    np.testing.assert_allclose(
        state.receipt.angle, np.degrees(np.arccos(cosine)), rtol=1e-3
    )


def test_a_limit_above_all_norms_changes_nothing():
    gradient, _, state = estimate(max_norm=11.0)
    np.testing.assert_allclose(gradient, [-3.0, -4.0], rtol=1e-6)
    np.testing.assert_allclose(state.bias, 0.0, atol=1e-6)
    assert float(state.receipt.fraction) == 0.0


def test_a_quantile_is_that_of_all_norms_so_far():
    gradient, _, state = estimate(quantile=0.5)
    assert 3.9 < float(state.receipt.norm_after) * 3 - 3 - 4 < 4.4  # Clips 10 to 4.
    larger = estimate(state=state, batch=10 * BATCH, quantile=0.5)[2]
    # Of 3, 4, 10, 30, 40, 100 the median lies in the cell of 10.
    assert 9.5 < float(larger.receipt.norm_after) < 10.5
    assert int(larger.norms[-1]) == 6
    assert jnp.all(jnp.abs(gradient) < jnp.array([3.0, 4.0]))


def test_of_two_limits_the_smaller_holds():
    tight = estimate(max_norm=1.0, quantile=0.99)[2]
    np.testing.assert_allclose(tight.receipt.norm_after, 1.0, rtol=1e-6)
    loose = estimate(max_norm=9.0, quantile=0.01)[2]
    assert float(loose.receipt.norm_after) < 3.2


def test_an_example_that_is_not_finite_counts_for_nothing():
    batch = BATCH.at[1].set(jnp.inf)
    gradient, signals, state = estimate(batch=batch, max_norm=5.0)
    np.testing.assert_allclose(gradient, [-3.0, -2.0], rtol=1e-6)
    assert not jnp.isfinite(signals.gradient_norm[1])
    np.testing.assert_allclose(state.receipt.norm_before, 6.5, rtol=1e-6)
    np.testing.assert_allclose(state.receipt.fraction, 0.5, rtol=1e-6)
    assert int(state.norms[-1]) == 2


def test_outer_derivatives_see_both_limits():
    def outer(clip):
        estimator = per_example_clip()
        value = config(max_norm=clip[0], quantile=clip[1])
        about = About(loss, PARAMS, PARAMS, BATCH, None, value)
        gradient, _, _ = estimator.update(estimator.init(PARAMS), KEY, about)
        return jnp.sum(gradient)

    # Only the third is clipped: d/dC of -C * (6 + 8) / 10 / 3.
    slope = jax.jit(jax.grad(lambda c: outer((c, None))))(5.0)
    np.testing.assert_allclose(slope, -14 / 30, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda q: outer((None, q))))(0.5)
    assert float(slope) < 0


# ---------------------------------------------------------------------- in the agents


class Linear:
    """`params @ s`."""

    @staticmethod
    def init(key, obs):
        return jnp.ones((2, obs.size))

    @staticmethod
    def apply(params, obs):
        return params @ obs


def transitions():
    return Transition(
        s_tm1=BATCH,
        a_tm1=jnp.array([0, 1, 0]),
        r_t=jnp.ones(3),
        s_t=BATCH,
        terminated=jnp.zeros(3, bool),
        truncated=jnp.zeros(3, bool),
        discount_t=jnp.full(3, 0.9),
        rho=jnp.ones(3),
    )


@pytest.mark.parametrize("clip", [{}, {"max_norm": 0.5}, {"quantile": 0.5}])
def test_an_agent_clips_if_its_config_says_so(clip):
    value = configs.canonical(config(**clip))
    agent = q_learning(Linear)

    @jax.jit
    def learn(value):
        state = agent.init(KEY, BATCH[0], value)
        return agent.update(state, transitions(), None, value)

    _, report = learn(value)
    names = {n for n in report.metrics if n.startswith("clip/per_example/")}
    parts = ("fraction", "norm_before", "norm_after", "angle", "bias")
    assert names == ({f"clip/per_example/{n}" for n in parts} if clip else set())
    if "max_norm" in clip:
        assert float(report.metrics["clip/per_example/norm_after"]) <= 0.5 + 1e-6
        assert float(report.metrics["gradient/norm"]) <= 0.5 + 1e-6
    assert (report.signals.gradient_norm is not None) == bool(clip)


def test_priorities_that_need_norms_get_those_before_the_clip():
    value = config(max_norm=0.5)
    value = configs.replace(value, {"replay.priority": "gradient_norm"})
    agent = register.get("agent", "q_learning")(configs.canonical(value), 2)

    @jax.jit
    def learn(value):
        state = agent.init(KEY, BATCH[0], value)
        return agent.update(state, transitions(), None, value)

    _, report = learn(value)
    assert report.signals.gradient_norm.shape == (3,)
    assert float(jnp.max(report.signals.gradient_norm)) > 0.5
    assert float(report.metrics["clip/per_example/fraction"]) > 0


def test_metrics_of_other_estimators_are_none():
    assert module.metrics(()) == {}


@pytest.mark.parametrize("key", ["max_norm", "quantile"])
def test_what_has_no_gradients_of_single_examples_refuses_the_clip(key):
    value = Config(agent=Prediction(td_gradient="gtd2"))
    value = configs.replace(value, {f"gradient.per_example.{key}": 0.5})
    with pytest.raises(ConfigError, match=rf"gradient.per_example.{key}=0.5.*gtd2"):
        needs.check(value, None, make.make(value.env))
    value = configs.replace(value, {"agent": TDLambda(), "replay": None})
    with pytest.raises(ConfigError, match=rf"{key}=0.5: expected null.*td_lambda"):
        needs.check(value, None, make.make(value.env))
