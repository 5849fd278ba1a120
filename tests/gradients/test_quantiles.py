"""Streaming quantiles: as NumPy's, in any order of the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.gradients import quantiles

CELL = 2 ** (1 / 16)


@jax.jit
def read(values, fraction):
    """The quantile of numbers that came one by one."""

    def step(counts, value):
        return quantiles.add(counts, value), None

    counts, _ = jax.lax.scan(step, quantiles.init(), values)
    return quantiles.quantile(counts, fraction)


def log_normal(size):
    return np.exp(np.random.default_rng(0).normal(-2.0, 1.5, size=size))


@pytest.mark.parametrize("percentile", [1, 10, 50, 90, 99])
def test_it_converges_to_numpys_percentile(percentile):
    values = log_normal(20_000)
    found = read(jnp.asarray(values), percentile / 100)
    np.testing.assert_allclose(found, np.percentile(values, percentile), rtol=2e-3)


@pytest.mark.parametrize("order", [1, -1])
def test_a_drift_over_six_orders_of_magnitude_is_no_harder(order):
    values = np.logspace(-3.0, 3.0, 5000)[::order]
    for percentile in (10, 90):
        found = read(jnp.asarray(values), percentile / 100)
        np.testing.assert_allclose(found, np.percentile(values, percentile), rtol=1e-2)


def test_a_few_numbers_are_known_to_one_cell():
    values = jnp.array([8.0, 1.0, 4.0])
    # Ranks 0.03, 1.5 and 3 of 3: in the cells of 1, of 4 and of 8.
    for fraction, value in ((0.01, 1.0), (0.5, 4.0), (1.0, 8.0)):
        assert (
            value <= float(read(values, fraction)) * (1 + 1e-6) <= value * CELL * 1.01
        )
    # Halfway through the cell from 4 on.
    np.testing.assert_allclose(read(values, 0.5), 4.0 * CELL**0.5, rtol=1e-5)


def test_the_edges():
    values = jnp.array([3.0, 5.0])
    assert float(read(values, 0.0)) <= 3.0
    assert float(read(values, 1.0)) >= 5.0
    assert float(quantiles.quantile(quantiles.init(), 0.5)) == jnp.inf
    assert float(read(jnp.array([jnp.nan, jnp.inf]), 0.5)) == jnp.inf
    np.testing.assert_allclose(read(jnp.zeros(3), 0.5), 2.0**-32, rtol=0.05)
    np.testing.assert_allclose(read(jnp.full(3, 1e30), 1.0), 2.0**32, rtol=1e-6)


def test_a_batch_counts_as_its_numbers_one_by_one():
    values = jnp.asarray(log_normal(12))
    at_once = quantiles.add(quantiles.init(), values.reshape(3, 4))
    assert float(quantiles.quantile(at_once, 0.3)) == float(read(values, 0.3))
    assert at_once.shape == quantiles.init().shape


def test_the_derivative_in_the_fraction_is_the_inverse_density():
    values = jnp.asarray(np.linspace(0.0, 4.0, 8001))  # Density 1/4: quantile 4 p.
    slope = jax.grad(read, argnums=1)(values, 0.6)
    np.testing.assert_allclose(slope, 4.0, rtol=0.03)


def late(values, total):
    """The state after `total` numbers, spread like these."""
    counts = np.asarray(quantiles.add(quantiles.init(), jnp.asarray(values)), float)
    return jnp.asarray(counts / len(values) * total, jnp.int32)


@pytest.mark.parametrize("total", [2**30, 2**31 - 64])
def test_the_count_has_no_end(total):
    values = log_normal(2000)
    counts = late(values, total)
    for _ in range(3):
        counts = quantiles.add(counts, jnp.asarray(values))
        assert 2**29 <= int(counts[-1]) <= 2**30 + 4000
        found = quantiles.quantile(counts, 0.9)
        np.testing.assert_allclose(found, np.percentile(values, 90), rtol=1e-2)


def test_what_came_before_weighs_half_beyond_two_to_the_thirty():
    ones = jnp.where(jnp.arange(1024) < 512, 0, 2**30).at[-1].add(1)
    counts = quantiles.add(ones, jnp.array([4.0, 4.0]))
    edges = counts[jnp.array([511, 512, 543, 544])].tolist()
    assert edges == [0, 2**29, 2**29, 2**29 + 2]


def test_a_rare_number_is_known_to_one_cell_beside_very_many():
    """Ranks of 2**29 numbers are multiples of 32 in float32."""
    many = jnp.where(jnp.arange(1024) < 512, 0, 2**29 - 31)
    counts = quantiles.add(many, jnp.full(20, 4.0))
    assert 4.0 <= float(quantiles.quantile(counts, 1.0)) <= 4.0 * CELL * (1 + 1e-6)


@pytest.mark.parametrize("total", [2**28, 2**30])
def test_the_largest_of_very_many_numbers_is_found(total):
    """Three of 1024 above all others of 1: the 100th percentile clips nothing."""
    counts = np.full(1024, total - 3, np.int32)
    counts[:512], counts[512 + 160 :] = 0, total
    found = quantiles.quantile(jnp.asarray(counts), 1.0)
    assert 1024 <= found <= 1024 * CELL
    np.testing.assert_allclose(
        quantiles.quantile(jnp.asarray(counts), 0.5), CELL**0.5, rtol=1e-4
    )
