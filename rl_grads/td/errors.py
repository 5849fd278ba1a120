"""TD errors: pure functions of the values of ONE transition, `target - prediction`.

No function here stops a gradient. Where to stop is the caller's choice: see
`rl_grads.td.losses`. Shapes: `v_*` are scalars, `q_*` are `[num_actions]`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_grads.arrays import Index, Number, Scalar


def td_error(v_tm1: Number, r_t: Number, discount_t: Number, v_t: Number) -> Scalar:
    """The TD(0) error of a state value (Sutton & Barto 2018, eq. 6.5).

    Example:
        >>> float(td_error(0.5, 1.0, 0.75, 2.0))
        2.0
    """
    return jnp.asarray(r_t + discount_t * v_t - v_tm1)


def q_learning_error(
    q_tm1: Float[Array, "A"],
    a_tm1: Index,
    r_t: Number,
    discount_t: Number,
    q_t: Float[Array, "A"],
) -> Scalar:
    """The Q-learning error (Watkins 1989; Sutton & Barto 2018, eq. 6.8).

    Example:
        >>> q_tm1, q_t = jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])
        >>> float(q_learning_error(q_tm1, 1, 1.0, 0.5, q_t))
        0.5
    """
    return td_error(q_tm1[a_tm1], r_t, discount_t, jnp.max(q_t))


def double_q_learning_error(
    q_tm1: Float[Array, "A"],
    a_tm1: Index,
    r_t: Number,
    discount_t: Number,
    q_t: Float[Array, "A"],
    q_t_selector: Float[Array, "A"],
) -> Scalar:
    """Double Q-learning: one estimate selects, the other evaluates.

    van Hasselt, Guez & Silver 2016, eq. 4: `q_t_selector` (the online network) picks
    the action, `q_t` (the bootstrap network) gives its value.

    Example:
        >>> q_tm1, q_t = jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])
        >>> float(double_q_learning_error(q_tm1, 1, 1.0, 0.5, q_t, -q_t))
        -1.0
    """
    return td_error(q_tm1[a_tm1], r_t, discount_t, q_t[jnp.argmax(q_t_selector)])


def sarsa_error(
    q_tm1: Float[Array, "A"],
    a_tm1: Index,
    r_t: Number,
    discount_t: Number,
    q_t: Float[Array, "A"],
    a_t: Index,
) -> Scalar:
    """The SARSA error (Sutton & Barto 2018, eq. 6.7); `a_t` is the next action.

    Example:
        >>> q_tm1, q_t = jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])
        >>> float(sarsa_error(q_tm1, 0, 1.0, 0.5, q_t, 1))
        0.0
    """
    return td_error(q_tm1[a_tm1], r_t, discount_t, q_t[a_t])


def expected_sarsa_error(
    q_tm1: Float[Array, "A"],
    a_tm1: Index,
    r_t: Number,
    discount_t: Number,
    q_t: Float[Array, "A"],
    probabilities_t: Float[Array, "A"],
) -> Scalar:
    """The expected SARSA error (van Seijen et al. 2009; S&B 2018, eq. 6.9).

    Example:
        >>> q_tm1, q_t = jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])
        >>> float(expected_sarsa_error(q_tm1, 0, 1.0, 1.0, q_t, jnp.array([0.5, 0.5])))
        1.5
    """
    return td_error(q_tm1[a_tm1], r_t, discount_t, jnp.dot(probabilities_t, q_t))
