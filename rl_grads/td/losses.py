"""TD losses: each makes, for a network, a pure function of ONE transition.

    loss(params, bootstrap_params, transition, config) -> (scalar, Signals)

minimises `0.5 * rho * td_error**2`. A semi-gradient is the derivative in `params`
only: the target is computed from `bootstrap_params`, a separate argument, so nothing
is stopped here and an outer derivative through the update stays exact. A network is
anything with flax's `init` and `apply`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rl_grads.td import errors, policies
from rl_grads.td.transition import Signals, Transition

Loss = Callable[[Any, Any, Transition, Any], tuple[jax.Array, Signals]]


def squared(td_error: jax.Array, transition: Transition) -> tuple[jax.Array, Signals]:
    """`0.5 * rho * td_error**2`, with the TD error as the signal; for your own losses.

    Example:
        >>> from types import SimpleNamespace
        >>> value, signals = squared(jnp.array(3.0), SimpleNamespace(rho=0.5))
        >>> float(value), float(signals.td_error)
        (2.25, 3.0)
    """
    return 0.5 * transition.rho * jnp.square(td_error), Signals(td_error)


def td(network: Any) -> Loss:
    """TD(0) value prediction (Sutton 1988); `network` maps s to `[1]`.

    Example:
        >>> import flax.linen as nn
        >>> loss = td(nn.Dense(1, use_bias=False))
    """

    def loss(
        params: Any, bootstrap_params: Any, transition: Transition, config: Any
    ) -> tuple[jax.Array, Signals]:
        v_tm1 = network.apply(params, transition.s_tm1)[0]
        v_t = network.apply(bootstrap_params, transition.s_t)[0]
        error = errors.td_error(v_tm1, transition.r_t, transition.discount_t, v_t)
        return squared(error, transition)

    return loss


def td_with_stop(network: Any) -> Loss:
    """TD(0) as tutorials write it: `stop_gradient` around the target in the loss.

    `bootstrap_params` is not used; `params` bootstrap, so there is no target network.
    Its first derivative equals that of `td` at `bootstrap_params = params`. An outer
    derivative through such an update is silently wrong; use `td` for meta-gradients.
    """

    def loss(
        params: Any, bootstrap_params: Any, transition: Transition, config: Any
    ) -> tuple[jax.Array, Signals]:
        v_tm1 = network.apply(params, transition.s_tm1)[0]
        v_t = network.apply(params, transition.s_t)[0]
        target = jax.lax.stop_gradient(transition.r_t + transition.discount_t * v_t)
        return squared(target - v_tm1, transition)

    return loss


def q_learning(network: Any) -> Loss:
    """Q-learning: bootstrap on the greedy value (Watkins 1989)."""

    def loss(
        params: Any, bootstrap_params: Any, transition: Transition, config: Any
    ) -> tuple[jax.Array, Signals]:
        error = errors.q_learning_error(
            network.apply(params, transition.s_tm1),
            transition.a_tm1,
            transition.r_t,
            transition.discount_t,
            network.apply(bootstrap_params, transition.s_t),
        )
        return squared(error, transition)

    return loss


def double_q_learning(network: Any) -> Loss:
    """Double Q-learning (van Hasselt et al. 2016): the online network selects."""

    def loss(
        params: Any, bootstrap_params: Any, transition: Transition, config: Any
    ) -> tuple[jax.Array, Signals]:
        error = errors.double_q_learning_error(
            network.apply(params, transition.s_tm1),
            transition.a_tm1,
            transition.r_t,
            transition.discount_t,
            network.apply(bootstrap_params, transition.s_t),
            network.apply(params, transition.s_t),
        )
        return squared(error, transition)

    return loss


def sarsa(network: Any) -> Loss:
    """SARSA: bootstrap on `a_t`, drawn from the behaviour policy in `s_t`.

    The loss raises a ValueError for a transition without `a_t`.
    """

    def loss(
        params: Any, bootstrap_params: Any, transition: Transition, config: Any
    ) -> tuple[jax.Array, Signals]:
        if transition.a_t is None:
            raise ValueError("sarsa: expected transitions with a_t, got a_t=None")
        error = errors.sarsa_error(
            network.apply(params, transition.s_tm1),
            transition.a_tm1,
            transition.r_t,
            transition.discount_t,
            network.apply(bootstrap_params, transition.s_t),
            transition.a_t,
        )
        return squared(error, transition)

    return loss


def expected_sarsa(network: Any) -> Loss:
    """Expected SARSA (van Seijen et al. 2009) under the behaviour policy.

    The policy is that of the bootstrap network: with a target network it lags behind
    the one that acts, but no derivative in `params` passes through it.
    """

    def loss(
        params: Any, bootstrap_params: Any, transition: Transition, config: Any
    ) -> tuple[jax.Array, Signals]:
        q_t = network.apply(bootstrap_params, transition.s_t)
        error = errors.expected_sarsa_error(
            network.apply(params, transition.s_tm1),
            transition.a_tm1,
            transition.r_t,
            transition.discount_t,
            q_t,
            policies.probabilities(q_t, config.agent.behaviour_policy),
        )
        return squared(error, transition)

    return loss
