"""Variance of sampling schemes: exact on a walk, and what sampling really gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.envs import chain
from rl_grads.training.diagnostics.sampling_variance import relative_variance, variance

# Trace of the variance of the one-sample TD(0) update at the TD fixed point.
WALKS = {
    "thousand_state": {
        "uniform": 1.0,
        "td_error_0.6": 0.48705876847150475,
        "td_error": 0.4837290724118603,
        "gradient_norm": 0.4837290692724826,
    },
    "thousand_state_polynomial": {
        "uniform": 1.0,
        "td_error_0.6": 0.8038271474315771,
        "td_error": 0.7845894204796436,
        "gradient_norm": 0.1419343698233305,
    },
}


@pytest.mark.parametrize("name", WALKS)
def test_the_thousand_state_walk(name):
    walk = chain.make(name).exact
    flow = np.einsum(
        "s,sa,sat->sat", walk.distribution, walk.behaviour, walk.transition
    )
    v = walk.features @ walk.td_fixed_point
    delta = walk.reward + walk.discount * v - v[:, None, None]
    mean = np.einsum("sat,sat,sd->d", flow, delta, walk.features)
    happens = flow > 0
    error = np.abs(delta)[happens]
    length = np.linalg.norm(walk.features, axis=1)[:, None, None]
    norms = (np.abs(delta) * length)[happens]
    priorities = {
        "uniform": np.ones_like(error),
        "td_error_0.6": error**0.6,
        "td_error": error,
        "gradient_norm": norms,
    }
    with jax.enable_x64(True):
        for scheme, expected in WALKS[name].items():
            found = relative_variance(
                jnp.asarray(norms**2),
                jnp.asarray(priorities[scheme]),
                mean @ mean,
                jnp.asarray(flow[happens]),
            )
            assert float(found) == pytest.approx(expected, abs=1e-3)


def test_it_is_the_variance_of_what_is_sampled():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 3)) * rng.gamma(1.0, size=(6, 1)) + 0.3
    priorities = rng.gamma(1.0, size=6)
    drawn = rng.choice(6, size=400_000, p=priorities / priorities.sum())
    weights = priorities.sum() / (6 * priorities)
    sampled = (weights[:, None] * gradients)[drawn].var(0).sum()
    mean = gradients.mean(0)
    found = variance(
        jnp.asarray((gradients**2).sum(1)), jnp.asarray(priorities), mean @ mean
    )
    np.testing.assert_allclose(found, sampled, rtol=0.02)


def test_gradient_norms_are_the_best_priorities():
    rng = np.random.default_rng(0)
    norms = rng.gamma(0.5, size=50)
    best = float(variance(jnp.asarray(norms**2), jnp.asarray(norms)))
    assert best == pytest.approx(norms.mean() ** 2, rel=1e-5)
    for _ in range(20):
        other = norms * rng.uniform(0.5, 2.0, size=50)
        assert float(variance(jnp.asarray(norms**2), jnp.asarray(other))) > best


def test_uniform_is_one_and_scale_does_not_matter():
    norms = jnp.array([1.0, 2.0, 3.0])
    assert float(relative_variance(norms**2, jnp.full(3, 7.0), 0.5)) == 1.0
    once, tenfold = (relative_variance(norms**2, k * norms) for k in (1.0, 10.0))
    np.testing.assert_allclose(once, tenfold, rtol=1e-6)


def test_what_is_never_drawn():
    square_norms = jnp.array([0.0, 4.0])
    assert float(variance(square_norms, jnp.array([0.0, 1.0]))) == 1.0
    assert float(variance(square_norms, jnp.array([1.0, 0.0]))) == np.inf
