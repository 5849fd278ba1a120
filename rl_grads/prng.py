"""PRNG keys, of one implementation whatever JAX's default is.

With `rbg`, usual advice on TPUs (`JAX_DEFAULT_PRNG_IMPL=rbg`), a draw under `vmap` is
the same for every key: all members of a population would share their random numbers.
"""

import jax

IMPLEMENTATION = "threefry2x32"


def key(seed: int | jax.Array) -> jax.Array:
    """The key of a seed.

    Args:
        seed: An integer, or a scalar array of integers.

    Example:
        >>> with jax.default_prng_impl("rbg"):
        ...     drawn = key(0)
        >>> str(jax.random.key_impl(drawn))
        'threefry2x32'
    """
    return jax.random.key(seed, impl=IMPLEMENTATION)
