"""The variance that a way of sampling gives the gradient.

Example i, of probability `d_i` in the data and gradient `g_i`, is drawn with
probability `q_i` in proportion to `d_i * priority_i` and weighted by `d_i / q_i`, so
that the estimate is unbiased. The trace of its covariance is

    V(q) = sum_i d_i**2 |g_i|**2 / q_i - |sum_i d_i g_i|**2

per example of the batch, least for priorities in proportion to `|g_i|` (Zhao & Zhang
2015; Alain et al. 2015). All ratios are to uniform sampling, `q = d`.
"""

import jax
import jax.numpy as jnp


def variance(
    square_norms: jax.Array,
    priorities: jax.Array,
    square_mean: jax.Array | float = 0.0,
    probabilities: jax.Array | None = None,
) -> jax.Array:
    """The variance above, a scalar; infinite if an example that matters is never drawn.

    Args:
        square_norms: `|g_i|**2`, `[N]`.
        priorities: Non-negative, `[N]`; their scale is of no account.
        square_mean: `|sum_i d_i g_i|**2`.
        probabilities: `d_i`, `[N]`; None: all equal.

    Example:
        >>> float(variance(jnp.array([1.0, 9.0]), jnp.array([1.0, 3.0]), 4.0))
        0.0
    """
    count = square_norms.shape[0]
    d = jnp.full(count, 1 / count) if probabilities is None else probabilities
    ratio = jnp.where(square_norms > 0, square_norms / priorities, 0.0)
    return jnp.sum(d * priorities) * jnp.sum(d * ratio) - square_mean


def relative_variance(
    square_norms: jax.Array,
    priorities: jax.Array,
    square_mean: jax.Array | float = 0.0,
    probabilities: jax.Array | None = None,
) -> jax.Array:
    """`variance` over that of uniform sampling; arguments as there.

    Below 1 the scheme helps, above 1 it harms.

    Example:
        >>> float(relative_variance(jnp.ones(2), jnp.array([1.0, 2.0])))
        1.125
    """
    equal = jnp.ones_like(square_norms)
    uniform = variance(square_norms, equal, square_mean, probabilities)
    return variance(square_norms, priorities, square_mean, probabilities) / uniform
