"""Sums in two words."""

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import long
from rl_grads.long import Long


@jax.jit
def total_of(value, count):
    start = long.zero(value)
    return jax.lax.fori_loop(0, count, lambda _, sum_: long.plus(sum_, value), start)


def test_a_million_tenths():
    """Float32 alone makes 100,958.34 of them."""
    tenth = jnp.float32(0.1)
    high, low = total_of(tenth, 1_000_000)
    exact = float(tenth) * 1e6
    np.testing.assert_allclose(float(high) + float(low), exact, rtol=1e-9)


def test_ones_beyond_two_to_the_24():
    high, low = total_of(jnp.float32(1), 2**24 + 5)
    assert float(high) + float(low) == 2**24 + 5


def test_integers_stay_exact():
    assert total_of(jnp.int32(3), 7) == (21, 0)


def test_what_is_not_finite_stays_what_it_is():
    number = long.plus(long.zero(jnp.float32(0)), jnp.float32(jnp.inf))
    assert number == (jnp.inf, 0)
    number = long.plus(number, jnp.float32(1))
    assert number == (jnp.inf, 0)
    assert jnp.isnan(long.plus(number, jnp.float32(-jnp.inf)).high)


def test_the_distance_from_a_number():
    number = Long(jnp.float32(2**24), jnp.float32(1))
    assert float(long.since(number, jnp.float32(2**24 + 4))) == 3.0


def test_trees():
    numbers = {"a": long.zero(jnp.float32(0)), "b": (long.zero(jnp.zeros(2)),)}
    summed = long.plus_each(numbers, {"a": jnp.float32(2), "b": (jnp.ones(2),)})
    first = long.high(summed)
    assert float(first["a"]) == 2.0
    assert first["b"][0].tolist() == [1.0, 1.0]
