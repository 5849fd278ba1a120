"""Priorities by name: what they are, what they need, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import config as configs
from rl_grads import register
from rl_grads.config import ConfigError
from rl_grads.replay import priorities
from rl_grads.replay.priorities import Priority
from rl_grads.replay.schema import Importance, Replay
from rl_grads.td.transition import Signals
from rl_grads.training.schema import Config

SIGNALS = Signals(
    td_error=jnp.array([-2.0, 0.5]),
    extra={"gradient_norm_last_layer": jnp.array([3.0, 4.0])},
    gradient_norm=jnp.array([5.0, 6.0]),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("uniform", [1.0, 1.0]),
        ("td_error", [2.0 + 1e-6, 0.5 + 1e-6]),
        ("rank", [2.0, 0.5]),
        ("loss_adjusted", [2.0, 1.0]),
        ("gradient_norm", [5.0 + 1e-6, 6.0 + 1e-6]),
        ("gradient_norm_last_layer", [3.0 + 1e-6, 4.0 + 1e-6]),
        ("large_batch", [5.0 + 1e-6, 6.0 + 1e-6]),
    ],
)
def test_scores(name, expected):
    scheme = priorities.scheme(Config(replay=Replay(priority=name)))
    np.testing.assert_allclose(scheme(SIGNALS, None), expected, rtol=1e-7)


def test_every_built_in_says_what_it_needs_and_keeps():
    names = register.names("priority")
    found = {n: priorities.scheme(Config(replay=Replay(priority=n))) for n in names}
    assert {n for n, s in found.items() if s.keeps == "nothing"} == {
        "uniform",
        "large_batch",
    }
    assert {n for n, s in found.items() if s.keeps == "ranks"} == {"rank"}
    assert {n for n, s in found.items() if s.resamples} == {"large_batch"}
    assert {n: s.needs for n, s in found.items() if s.needs} == {
        "gradient_norm": "gradient_norm",
        "gradient_norm_last_layer": "gradient_norm_last_layer",
        "large_batch": "gradient_norm",
    }


def test_learning_online_is_uniform():
    assert priorities.scheme(Config(replay=None)) is priorities.uniform


def test_a_plain_function_is_a_scheme(monkeypatch):
    def mine(signals, config):
        return signals.td_error**2

    known = {**register._COMPONENTS["priority"], "mine": mine}
    monkeypatch.setitem(register._COMPONENTS, "priority", known)
    scheme = priorities.scheme(Config(replay=Replay(priority="mine")))
    assert scheme == Priority(mine, needs=None, keeps="scores", resamples=False)
    assert scheme(SIGNALS, None).tolist() == [4.0, 0.25]


@pytest.mark.parametrize("name", ["gradient_norm", "gradient_norm_last_layer"])
def test_signals_without_what_a_scheme_needs_are_refused(name):
    scheme = priorities.scheme(Config(replay=Replay(priority=name)))
    with pytest.raises(ValueError, match=f"signals with {name}, got None"):
        scheme(Signals(jnp.ones(2)), None)


@pytest.mark.parametrize("key", ["exponent", "importance.exponent"])
def test_a_negative_exponent_is_refused(key):
    value = configs.replace(Config(), {f"replay.{key}": -0.5})
    with pytest.raises(ConfigError, match=rf"replay\.{key}=-0\.5: .* in \[0, inf\)"):
        configs.canonical(value)


@pytest.mark.parametrize(
    ("score", "exponent", "expected"),
    [
        (4.0, 0.5, 2.0),
        (0.0, 0.5, 0.0),
        (0.0, 0.0, 1.0),
        (-4.0, 2.0, np.nan),
        (np.nan, 1.0, np.nan),
        (np.inf, 0.0, np.nan),
        (1e30, 2.0, np.nan),
    ],
)
def test_scores_to_a_power(score, exponent, expected):
    found = priorities.raised(jnp.array([score]), exponent)
    np.testing.assert_array_equal(found, [expected])


def test_a_bad_score_does_not_spoil_the_derivative_in_the_exponent():
    scores = jnp.array([-1.0, np.nan, 0.0, 4.0])

    def kept(exponent):
        powered = priorities.raised(scores, exponent)
        return jnp.where(jnp.isnan(powered), 0.0, powered).sum()

    # d/de 4^e = log(4) 4^e at e = 1/2
    np.testing.assert_allclose(jax.grad(kept)(0.5), 2 * np.log(4), rtol=1e-6)


@pytest.mark.parametrize(
    ("exponent", "normalise", "expected"),
    [
        (1.0, "none", [0.5, 2.0]),
        (0.5, "none", [2**-0.5, 2**0.5]),
        (0.0, "none", [1.0, 1.0]),
        (1.0, "max", [0.25, 1.0]),
        (1.0, "mean", [0.4, 1.6]),
    ],
)
def test_importance_weights_by_hand(exponent, normalise, expected):
    importance = Importance(exponent=exponent, normalise=normalise)
    probability = jnp.array([0.5, 0.125])
    found = priorities.importance_weights(probability, 4, importance)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
