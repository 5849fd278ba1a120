"""TD losses: each makes, for a network, a pure function of ONE transition.

    loss(params, bootstrap_params, transition, config) -> (scalar, Signals)

minimises `0.5 * rho * td_error**2`. A semi-gradient is the derivative in `params`
only: the target is computed from `bootstrap_params`, a separate argument, so nothing
is stopped here and an outer derivative through the update stays exact. A network is
anything with flax's `init` and `apply`.

`semi`, `full`, `interpolate` and `residual` take such a loss and return one whose
derivative in `params` is another gradient (`agent.td_gradient`). Updates that are no
gradient of a scalar stand in `rl_grads.td.directions`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rl_grads.arrays import Number, Scalar
from rl_grads.register import ACTION_VALUES, STATE_VALUE, Declaration, declares
from rl_grads.td import errors, policies
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network, Params

Loss = Callable[[Any, Any, Transition, Any], tuple[jax.Array, Signals]]


def squared(td_error: Scalar, transition: Transition) -> tuple[Scalar, Signals]:
    """`0.5 * rho * td_error**2`, with the TD error as the signal; for your own losses.

    Example:
        >>> from types import SimpleNamespace
        >>> value, signals = squared(jnp.array(3.0), SimpleNamespace(rho=0.5))
        >>> float(value), float(signals.td_error)
        (2.25, 3.0)
    """
    return 0.5 * transition.rho * jnp.square(td_error), Signals(td_error)


def prioritised_approximation(
    td_error: Scalar, transition: Transition, exponent: Number
) -> tuple[Scalar, Signals]:
    """PAL: uniform sampling of it equals loss-adjusted sampling of the Huber loss.

    `rho` times `0.5 * td_error**2` up to 1 and `|td_error|**(1 + a) / (1 + a)` beyond
    (Fujimoto, Meger & Precup 2020, eq. 17). Their factor `1 / lambda` is left out:
    lambda is the mean of `max(|td_error|**a, 1)` over what is sampled.

    Example:
        >>> from types import SimpleNamespace
        >>> value, _ = prioritised_approximation(
        ...     jnp.array(-4.0), SimpleNamespace(rho=1.0), 0.5
        ... )
        >>> round(float(value), 4)  # 4 ** 1.5 / 1.5
        5.3333
    """
    size = jnp.abs(td_error)
    # A power of zero would have no derivative in the exponent.
    beyond = jnp.maximum(size, 1.0) ** (1 + exponent) / (1 + exponent)
    value = jnp.where(size <= 1, 0.5 * jnp.square(td_error), beyond)
    return transition.rho * value, Signals(td_error)


@declares(Declaration(outputs=STATE_VALUE))
def td(network: Network) -> Loss:
    """TD(0) value prediction (Sutton 1988); `network` maps s to `[1]`.

    Example:
        >>> import flax.linen as nn
        >>> loss = td(nn.Dense(1, use_bias=False))
    """

    def loss(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
        v_tm1 = network.apply(params, transition.s_tm1)[0]
        v_t = network.apply(bootstrap_params, transition.s_t)[0]
        error = errors.td_error(v_tm1, transition.r_t, transition.discount_t, v_t)
        return squared(error, transition)

    return loss


def td_with_stop(network: Network) -> Loss:
    """TD(0) as tutorials write it: `stop_gradient` around the target in the loss.

    `bootstrap_params` is not used; `params` bootstrap, so there is no target network.
    Its first derivative equals that of `td` at `bootstrap_params = params`. An outer
    derivative through such an update is silently wrong; use `td` for meta-gradients.
    """

    def loss(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
        v_tm1 = network.apply(params, transition.s_tm1)[0]
        v_t = network.apply(params, transition.s_t)[0]
        target = jax.lax.stop_gradient(transition.r_t + transition.discount_t * v_t)
        return squared(target - v_tm1, transition)

    return loss


# ---------------------------------------------------------- what the derivative sees


def semi(loss: Loss) -> Loss:
    """The loss itself: its derivative in `params` is the semi-gradient.

    For TD(0): `-rho td_error grad v(s_tm1)` (Sutton & Barto 2018, eq. 9.3).

    Example:
        >>> semi(loss) is loss  # doctest: +SKIP
        True
    """
    return loss


def full(loss: Loss) -> Loss:
    """The naive residual gradient: `params` also bootstrap, and nothing is stopped.

    For TD(0): `rho td_error (discount_t grad v(s_t) - grad v(s_tm1))`, the gradient of
    the mean squared TD *error* (Sutton & Barto 2018, section 11.5), which is not the
    Bellman error where outcomes are random. `bootstrap_params` are not used.

    Example:
        >>> loss = full(td(network))  # doctest: +SKIP
    """

    def changed(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
        return loss(params, params, transition, config)

    return changed


def interpolate(loss: Loss) -> Loss:
    """Baird's residual algorithm: between the semi-gradient and the naive residual.

    `(1 - phi) semi + phi full`, with `phi = config.agent.interpolation` (Baird 1995,
    section 4). The parameters that bootstrap are mixed, not the gradients: where both
    are equal in value, so is the loss, and its derivative has just this share of the
    second path. So `phi` can be traced, swept and learned.

    Example:
        >>> loss = interpolate(td(network))  # doctest: +SKIP
    """

    def changed(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
        phi = config.agent.interpolation
        mixed = jax.tree.map(
            lambda old, new: old + phi * (new - old), bootstrap_params, params
        )
        return loss(params, mixed, transition, config)

    return changed


def residual(loss: Loss) -> Loss:
    """The residual gradient from two independent draws (Baird 1995, section 4).

    `0.5 (rho td_error) (rho_alt td_error_alt)`, differentiated along both paths of
    both errors: its mean over the draws is half the squared Bellman error, `0.5
    E[rho td_error]^2`, because each draw carries its own importance ratio. The loss
    can be negative. The signals are those of the first draw.

    The loss raises a ValueError for a transition without a second draw.

    Example:
        >>> loss = residual(td(network))  # doctest: +SKIP
    """

    def changed(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
        other = second_draw(transition)
        signals = loss(params, params, transition, config)[1]
        error_alt = loss(params, params, other, config)[1].td_error
        product = transition.rho * signals.td_error * other.rho * error_alt
        return 0.5 * product, signals

    return changed


def second_draw(transition: Transition) -> Transition:
    """The second draw from the same state as a transition of its own.

    Raises:
        ValueError: There is none.

    Example:
        >>> second_draw(transition).r_t  # doctest: +SKIP
    """
    if transition.r_t_alt is None:
        raise ValueError(
            "residual: expected transitions with a second draw, got r_t_alt=None"
        )
    return transition._replace(
        r_t=transition.r_t_alt,
        s_t=transition.s_t_alt,
        discount_t=transition.discount_t_alt,
        rho=transition.rho_alt,
    )


# --------------------------------------------------------------------------- control


@declares(Declaration(outputs=ACTION_VALUES))
def q_learning(network: Network) -> Loss:
    """Q-learning: bootstrap on the greedy value (Watkins 1989)."""

    def loss(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
        error = errors.q_learning_error(
            network.apply(params, transition.s_tm1),
            transition.a_tm1,
            transition.r_t,
            transition.discount_t,
            network.apply(bootstrap_params, transition.s_t),
        )
        return squared(error, transition)

    return loss


@declares(Declaration(outputs=ACTION_VALUES))
def double_q_learning(network: Network) -> Loss:
    """Double Q-learning (van Hasselt et al. 2016): the online network selects."""

    def loss(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
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


@declares(Declaration(outputs=ACTION_VALUES))
def sarsa(network: Network) -> Loss:
    """SARSA: bootstrap on `a_t`, drawn from the behaviour policy in `s_t`.

    The loss raises a ValueError for a transition without `a_t`.
    """

    def loss(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
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


@declares(Declaration(outputs=ACTION_VALUES))
def expected_sarsa(network: Network) -> Loss:
    """Expected SARSA (van Seijen et al. 2009) under the behaviour policy.

    The policy is that of the bootstrap network: with a target network it lags behind
    the one that acts, but no derivative in `params` passes through it.
    """

    def loss(
        params: Params, bootstrap_params: Params, transition: Transition, config: Config
    ) -> tuple[Scalar, Signals]:
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
