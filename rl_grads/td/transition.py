"""What a TD loss sees: one transition; and what it says: its signals."""

from typing import Any, NamedTuple

import jax


class Transition(NamedTuple):
    """One transition from time t-1 to time t; batches have a leading axis.

    Attributes:
        s_tm1: Observation at t-1, `[...]`.
        a_tm1: Action taken in it, an integer scalar.
        r_t: Reward.
        s_t: Observation it led to. After a truncation this is the *final* observation
            of the episode; after a termination it is not meaningful and `discount_t`
            is zero.
        terminated: The episode ended in a terminal state.
        truncated: The episode was cut off; `s_t` still bootstraps.
        discount_t: `discount * (1 - terminated)`.
        rho: Importance ratio of the action, target over behaviour policy.
        a_t: Action drawn from the behaviour policy in `s_t` (SARSA), else None.
        r_t_alt: Reward of a second, independent draw of action and outcome from the
            same state (double sampling); None, as its other three fields, without one.
        s_t_alt: Observation that the second draw led to.
        discount_t_alt: Its discount; zero where it terminated.
        rho_alt: Its own importance ratio.
    """

    s_tm1: jax.Array
    a_tm1: jax.Array
    r_t: jax.Array
    s_t: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    discount_t: jax.Array
    rho: jax.Array
    a_t: jax.Array | None = None
    r_t_alt: jax.Array | None = None
    s_t_alt: jax.Array | None = None
    discount_t_alt: jax.Array | None = None
    rho_alt: jax.Array | None = None


class Signals(NamedTuple):
    """What one example says beside its gradient.

    Attributes:
        td_error: `target - prediction`, a scalar (or `[B]` for a batch).
        extra: Further scalars by name; they are averaged and logged as metrics.
        gradient_norm: L2 norm of the example's unweighted gradient, where the
            estimator computes it, else None.
    """

    td_error: jax.Array
    extra: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple default, never mutated)
    gradient_norm: jax.Array | None = None
