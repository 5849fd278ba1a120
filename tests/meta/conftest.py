import jax
import jax.numpy as jnp
import pytest

from rl_grads.td.transition import Transition


@pytest.fixture(autouse=True)
def _quickly(quick_compiler):
    """Programs of these tests run for less time than they take to optimise."""


@pytest.fixture
def transitions():
    """Makes random transitions with leading axes, and a meaningless discount."""

    def make(seed, *lead, features=3):
        keys = jax.random.split(jax.random.key(seed), 5)
        return Transition(
            s_tm1=jax.random.normal(keys[0], (*lead, features)),
            a_tm1=jnp.zeros(lead, jnp.int32),
            r_t=jax.random.normal(keys[1], lead),
            s_t=jax.random.normal(keys[2], (*lead, features)),
            terminated=jax.random.bernoulli(keys[3], 0.2, lead),
            truncated=jnp.zeros(lead, bool),
            discount_t=jnp.full(lead, jnp.nan),
            rho=jnp.exp(0.3 * jax.random.normal(keys[4], lead)),
        )

    return make
