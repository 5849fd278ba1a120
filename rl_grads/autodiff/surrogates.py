"""Surrogate gradients: a value that has no useful derivative borrows another one.

In TD agents they carry gradients through discrete things: a greedy or sampled action
inside a model or a critic's input, a quantised feature, a gate. They are biased in
general; what is known about the bias stands at each function.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_grads.arrays import Number, PRNGKey
from rl_grads.autodiff import arguments
from rl_grads.typing import Function, PyTree


@jax.custom_jvp
def _value_of(value: PyTree, surrogate: PyTree) -> PyTree:
    """`value`, with the derivative of `surrogate`."""
    return value


@_value_of.defjvp
def _value_of_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    # Not `surrogate + stop_gradient(value - surrogate)`, which rounds the value.
    return _value_of(*primals), tangents[1]


def straight_through(fun: Function) -> Function:
    """The function with the derivative of the identity (Bengio et al. 2013).

    Args:
        fun: `fun(x, *args)`, whose output has the shapes and dtypes of x. Nothing of it
            is differentiated, so any function will do.

    Returns:
        `through(x, *args)`: the value of `fun`; a derivative passes to x unchanged.

    Raises:
        TypeError: x is not floating.
        ValueError: The output is not like x.

    Example:
        >>> through = straight_through(jnp.round)
        >>> through(1.7).item(), jax.grad(through)(1.7).item()
        (2.0, 1.0)
    """

    def through(x: PyTree, *args: PyTree) -> PyTree:
        arguments.floating("x", x)
        value = fun(*jax.lax.stop_gradient((x, *args)))
        arguments.like("output of fun", value, x)
        return _value_of(jax.lax.stop_gradient(value), x)

    return through


def gumbel_straight_through(
    key: PRNGKey, logits: Float[Array, "*batch C"], temperature: Number = 1.0
) -> Float[Array, "*batch C"]:
    """A sampled category as a one-hot vector, with a relaxed sample's derivative.

    Forward it is exact: `argmax(logits + gumbel noise)` has the probabilities
    `softmax(logits)`. The derivative is that of
    `softmax((logits + noise) / temperature)`. The bias falls and the variance rises
    with a falling temperature. Straight-through Gumbel-softmax, Jang et al. (2017).

    Args:
        key: PRNG key.
        logits: `[..., categories]`; -inf rules a category out.
        temperature: > 0; may be traced, and has a derivative.

    Returns:
        `[..., categories]`, one-hot, in the dtype of the logits.

    Raises:
        TypeError: The logits or the temperature are not floating.
        ValueError: The logits are a scalar, the temperature is none or not > 0.

    Example:
        >>> gumbel_straight_through(jax.random.key(0), jnp.array([0.0, 9.0])).tolist()
        [0.0, 1.0]
    """
    _check(logits, temperature)
    noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    soft = jax.nn.softmax(noisy / jnp.asarray(temperature, logits.dtype))
    return _value_of(_one_hot(jnp.argmax(noisy, axis=-1), logits), soft)


def reinmax(
    key: PRNGKey, logits: Float[Array, "*batch C"], temperature: Number = 1.0
) -> Float[Array, "*batch C"]:
    """A sampled category as a one-hot vector, with a second-order derivative.

    With `p = softmax(logits)`, the sample D and `q = (D + softmax(logits /
    temperature)) / 2` the derivative is `2 J(q) - J(p) / 2`, where J(p) is the Jacobian
    of the softmax whose value is p. At temperature 1 this is Heun's rule, and the mean
    gradient over D is exact for every function of D that is quadratic. ReinMax, Liu et
    al. (2023), "Bridging discrete and backpropagation", algorithm 2.

    Args:
        key: PRNG key.
        logits: `[..., categories]`; -inf rules a category out.
        temperature: > 0; may be traced. It has no derivative.

    Returns:
        `[..., categories]`, one-hot, in the dtype of the logits.

    Raises:
        TypeError: The logits or the temperature are not floating.
        ValueError: The logits are a scalar, the temperature is none or not > 0.

    Example:
        >>> reinmax(jax.random.key(0), jnp.array([0.0, 9.0])).tolist()
        [0.0, 1.0]
    """
    _check(logits, temperature)
    sample = _one_hot(jax.random.categorical(key, logits), logits)
    smooth = jax.nn.softmax(logits / jnp.asarray(temperature, logits.dtype))
    log_mean = jax.lax.stop_gradient(jnp.log((sample + smooth) / 2))
    # A softmax whose value is the mean and whose logits move with the given ones.
    mean = jax.nn.softmax(_value_of(log_mean, logits))
    return _value_of(sample, 2 * mean - jax.nn.softmax(logits) / 2)


def _one_hot(category: jax.Array, logits: jax.Array) -> jax.Array:
    return jax.nn.one_hot(category, logits.shape[-1], dtype=logits.dtype)


def _check(logits: jax.Array, temperature: Number) -> None:
    arguments.floating_array("logits", logits)
    if jnp.ndim(logits) == 0:
        raise ValueError("logits: expected [..., categories], got a scalar")
    arguments.number("temperature", temperature)
    if arguments.is_known(temperature) and not temperature > 0:
        raise ValueError(f"temperature={temperature}: expected a number > 0")
