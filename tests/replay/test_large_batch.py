"""One batch out of a large one: frequencies, weights, and what is left out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.replay.large_batch import Chosen, choose
from rl_grads.replay.schema import Importance, Replay
from rl_grads.td.transition import Signals
from rl_grads.training.schema import Config, Training

pytestmark = pytest.mark.slow


@functools.partial(jax.jit, static_argnums=1)
def chosen(
    norms: jax.Array, batch_size: int, exponent: float = 1.0, correct: float = 1.0
) -> Chosen:
    config = Config(
        replay=Replay(
            priority="large_batch",
            exponent=exponent,
            importance=Importance(exponent=correct, normalise="none"),
        ),
        training=Training(batch_size=batch_size),
    )
    signals = Signals(jnp.zeros(len(norms)), gradient_norm=norms)
    return choose(jax.random.key(0), signals, config)


def test_weights_are_the_mean_priority_over_the_own():
    found = chosen(jnp.array([1.0, 2.0, 3.0, 6.0]), 1000)
    by_place = dict(zip(found.places.tolist(), found.weights.tolist(), strict=True))
    for place, expected in enumerate([3.0, 1.5, 1.0, 0.5]):  # mean 3, over p
        assert by_place[place] == pytest.approx(expected, rel=1e-5)


def test_draws_are_in_proportion_to_the_norms():
    counts = np.bincount(chosen(jnp.array([1.0, 2.0, 3.0, 6.0]), 12_000).places)
    np.testing.assert_allclose(counts, [1000, 2000, 3000, 6000], rtol=0.1)


def test_the_weighted_batch_is_unbiased():
    values = np.random.default_rng(0).gamma(0.5, size=64).astype(np.float32)
    found = chosen(jnp.asarray(values), 4096)
    weighted = np.asarray(found.weights) * values[found.places]
    np.testing.assert_allclose(weighted.mean(), values.mean(), rtol=1e-4)


def test_exponents():
    found = chosen(jnp.array([1.0, 16.0]), 1000, 0.5, 0.5)
    share = np.mean(np.asarray(found.places) == 1)
    assert abs(share - 0.8) < 0.04  # 4 / (1 + 4)
    weights = np.asarray(found.weights)[np.asarray(found.places) == 1]
    np.testing.assert_allclose(weights, (2 * 0.8) ** -0.5, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_never_drawn(bad):
    found = chosen(jnp.array([1.0, bad, 3.0]), 500)
    assert set(found.places.tolist()) == {0, 2}
    assert np.isfinite(found.weights).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_if_none_is_left_the_draw_is_uniform(bad):
    found = chosen(jnp.full(5, bad), 1000)
    assert np.bincount(found.places).tolist() == [200] * 5
    np.testing.assert_allclose(found.weights, 1.0, rtol=1e-6)
