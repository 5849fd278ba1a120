"""Traces and n-step returns: what methods that learn from transitions in order carry.

Everything here is about ONE trajectory and pure. Gradients and eligibility traces are
pytrees of the shape of the parameters. TD(lambda) is no gradient of a scalar: it gives
a direction to descend, which an optimizer takes like a gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl_grads import register
from rl_grads.arrays import AnyArray, Index, Number
from rl_grads.register import Declaration, Need
from rl_grads.td import errors
from rl_grads.td.transition import Transition
from rl_grads.typing import Params, PyTree

Value = Callable[[Any, jax.Array], jax.Array]


# ------------------------------------------------------------------ eligibility traces


def accumulating(eligibility: Params, gradient: Params, decay: Number) -> Params:
    """`z_t = decay z_tm1 + gradient` (Sutton & Barto 2018, eq. 12.5).

    Args:
        eligibility: `z_tm1`.
        gradient: Of the value of the state that is visited now.
        decay: Discount times lambda.

    Example:
        >>> accumulating(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]), 0.5).tolist()
        [1.5, 1.0]
    """
    return jax.tree.map(lambda z, x: decay * z + x, eligibility, gradient)


def replacing(eligibility: Params, gradient: Params, decay: Number) -> Params:
    """As `accumulating`, but what is active now is set (Singh & Sutton 1996).

    Made for tables and binary features: an element is active where the gradient is
    not zero.

    Example:
        >>> replacing(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]), 0.5).tolist()
        [1.0, 1.0]
    """
    return jax.tree.map(
        lambda z, x: jnp.where(x != 0, x, decay * z), eligibility, gradient
    )


def dutch(
    eligibility: Params, gradient: Params, decay: Number, step_size: Number
) -> Params:
    """The trace of true online TD(lambda) (Sutton & Barto 2018, eq. 12.11).

    `z_t = decay z_tm1 + (1 - step_size decay z_tm1.gradient) gradient`.

    Example:
        >>> z, x = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
        >>> dutch(z, x, 0.5, step_size=0.5).tolist()
        [1.25, 1.0]
    """
    products = jax.tree.map(lambda z, x: jnp.sum(z * x), eligibility, gradient)
    share = 1 - step_size * decay * sum(jax.tree.leaves(products))
    return jax.tree.map(lambda z, x: decay * z + share * x, eligibility, gradient)


class Rule(NamedTuple):
    """What stands behind one value of `agent.trace`; a plain function is its `visit`.

    Attributes:
        visit: `visit(eligibility, gradient, decay, step_size) -> eligibility`.
        corrects: The direction has what makes true online TD(lambda) exact (Sutton &
            Barto 2018, eq. 12.6); then the eligibility takes no importance ratio.
        declares: What it needs of the rest of a config.
    """

    visit: Callable[[Any, Any, Number, Number], Any]
    corrects: bool = False
    declares: Declaration = Declaration()


_EXACT = "it is exact for plain steps of a linear value"
true_online = Rule(
    dutch,
    corrects=True,
    declares=Declaration(
        needs=(
            Need("network", "linear", _EXACT),
            Need("optimizer", "sgd", _EXACT),
            Need("training.num_envs", 1, _EXACT),
            Need("optimizer.momentum", None, _EXACT),
            Need("gradient.update.clip", None, _EXACT),
            Need("agent.target.period", None, _EXACT),
            Need("agent.target.polyak", None, _EXACT),
        ),
        on_policy=True,
    ),
)


def rule(name: str) -> Rule:
    """The kind of trace of that name.

    Raises:
        ConfigError: There is none; the message names the nearest.

    Example:
        >>> rule("true_online").corrects
        True
    """
    found = register.get("trace", name)
    if isinstance(found, Rule):
        return found

    def visit(z: Params, gradient: Params, decay: Number, step_size: Number) -> Params:
        return found(z, gradient, decay)

    return Rule(visit, declares=register.declared(found))


class Trace(NamedTuple):
    """What TD(lambda) carries from one transition of a trajectory to the next.

    Attributes:
        eligibility: `z`, of the shape of the parameters.
        discount: Discount up to the next transition; 0 before the first one of an
            episode, so that `z` is forgotten there.
        v_old: Value of the next state before the last update (true online).
    """

    eligibility: Any
    discount: jax.Array
    v_old: jax.Array


class Settings(NamedTuple):
    """Numbers of TD(lambda), and which trace it uses.

    Attributes:
        trace: `"accumulating"`, `"replacing"`, `"true_online"` or a registered one.
        trace_decay: lambda.
        step_size: Step size along the direction; true online TD(lambda) depends on it.
    """

    trace: str
    trace_decay: Number
    step_size: Number


class Direction(NamedTuple):
    """An update direction: the update is `params - step_size * direction`.

    Attributes:
        direction: Of the shape of the parameters.
        td_error: The TD(0) error.
        trace: What the next transition needs.
    """

    direction: Any
    td_error: jax.Array
    trace: Trace


def start(params: Params) -> Trace:
    """The trace before a first transition.

    Example:
        >>> start(jnp.array([3.0, 4.0])).eligibility.tolist()
        [0.0, 0.0]
    """
    zero = jnp.zeros((), jax.tree.leaves(params)[0].dtype)
    return Trace(jax.tree.map(jnp.zeros_like, params), zero, zero)


def td_lambda(
    value: Value,
    trace: Trace,
    params: Params,
    bootstrap_params: Params,
    transition: Transition,
    settings: Settings,
) -> Direction:
    """The direction of TD(lambda) at ONE transition (Sutton & Barto 2018, ch. 12).

    Accumulating and replacing traces give `-td_error z`, where off policy `z` is
    multiplied by the importance ratio each time (eq. 12.25). True online TD(lambda)
    (van Seijen et al. 2016) is on policy, for values linear in the parameters and
    without a target network: it equals the online lambda-return algorithm exactly.
    After a termination or a truncation the trace starts anew; a truncated transition
    bootstraps like any other. Nothing is stopped.

    Args:
        value: `value(params, obs) -> v`, a scalar.
        trace: `start(params)`, or the trace that the last transition left.
        params: The value of `s_tm1` is differentiated in these.
        bootstrap_params: The value of `s_t` is computed from these.
        transition: One transition, the successor of the last one.
        settings: The kind of trace and its numbers.

    Raises:
        ConfigError: An unknown kind of trace.

    Example:
        >>> value = lambda w, x: w @ x
        >>> w, one, no = jnp.zeros(2), jnp.ones(()), jnp.bool_(False)
        >>> step = Transition(jnp.eye(2)[0], 0, one, jnp.eye(2)[1], no, no, one, one)
        >>> numbers = Settings("accumulating", trace_decay=0.5, step_size=0.1)
        >>> after = td_lambda(value, start(w), w, w, step, numbers)
        >>> after.direction.tolist(), after.trace.eligibility.tolist()
        ([-1.0, -0.0], [1.0, 0.0])
    """
    v_tm1, gradient = jax.value_and_grad(value)(params, transition.s_tm1)
    v_t = value(bootstrap_params, transition.s_t)
    td_error = errors.td_error(v_tm1, transition.r_t, transition.discount_t, v_t)
    decay, z = trace.discount * settings.trace_decay, trace.eligibility
    kind = rule(settings.trace)
    z = kind.visit(z, gradient, decay, settings.step_size)
    if kind.corrects:
        change = v_tm1 - trace.v_old
        direction = jax.tree.map(
            lambda z, x: change * x - (td_error + change) * z, z, gradient
        )
    else:
        z = jax.tree.map(lambda z: transition.rho * z, z)
        direction = jax.tree.map(lambda z: -td_error * z, z)
    discount = jnp.where(transition.truncated, 0.0, transition.discount_t)
    return Direction(direction, td_error, Trace(z, discount, v_t))


def lambda_returns(
    r_t: Float[AnyArray, "T"],
    discount_t: Float[AnyArray, "T"],
    v_t: Float[AnyArray, "T"],
    trace_decay: Number,
) -> Float[Array, "T"]:
    """The lambda-return of every state of ONE episode, `[T]` (S&B 2018, eq. 12.20).

    `G_tm1 = r_t + discount_t ((1 - lambda) v_t + lambda G_t)`, backwards from
    `G_T = v_T`: with lambda 0 the target of TD(0), with lambda 1 the Monte Carlo
    return, which bootstraps only where the episode was cut off.

    Args:
        r_t: Rewards, `[T]`.
        discount_t: Discounts, `[T]`; zero at a termination.
        v_t: Values of the states that the transitions lead to, `[T]`.
        trace_decay: lambda, a scalar.

    Raises:
        ValueError: The three are not of one shape `[T]`.

    Example:
        >>> r_t, discount_t = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0])
        >>> lambda_returns(r_t, discount_t, jnp.array([4.0, 9.0]), 0.5).tolist()
        [2.5, 2.0]
    """
    shapes = (jnp.shape(r_t), jnp.shape(discount_t), jnp.shape(v_t))
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"r_t, discount_t, v_t: expected one shape [T], got {shapes}")

    def back(after: jax.Array, step: PyTree) -> tuple[jax.Array, jax.Array]:
        reward, discount, v = step
        here = reward + discount * ((1 - trace_decay) * v + trace_decay * after)
        return here, here

    return jax.lax.scan(back, v_t[-1], (r_t, discount_t, v_t), reverse=True)[1]


# -------------------------------------------------------------- transitions of n steps


def join(first: Transition, second: Transition) -> Transition:
    """Two consecutive transitions as one: an n-step return is a transition as well.

    Its reward is `r + discount r'`, its discount and its importance ratio are the
    products (Sutton & Barto 2018, eq. 7.1 and 7.9), and it leads where the second
    leads. After the end of an episode nothing is joined: the result is `first`.

    Args:
        first: One transition, or several joined.
        second: What followed.

    Example:
        >>> no, one = jnp.bool_(False), jnp.ones(())
        >>> step = Transition(one, 0, one, one, no, no, jnp.array(0.5), one)
        >>> joined = join(step, join(step, step))
        >>> float(joined.r_t), float(joined.discount_t)
        (1.75, 0.125)
    """
    ended = first.terminated | first.truncated

    def unless_ended(alone: PyTree, both: PyTree) -> jax.Array:
        return jnp.where(ended, alone, both)

    return first._replace(
        r_t=unless_ended(first.r_t, first.r_t + first.discount_t * second.r_t),
        s_t=unless_ended(first.s_t, second.s_t),
        terminated=unless_ended(first.terminated, second.terminated),
        truncated=unless_ended(first.truncated, second.truncated),
        discount_t=unless_ended(first.discount_t, first.discount_t * second.discount_t),
        rho=unless_ended(first.rho, first.rho * second.rho),
    )


def join_later(first: Transition, second: Transition, offset: Index) -> Transition:
    """Join each transition of a trajectory with the one `offset` later in another.

    Where the trajectory has no such transition any more the result is `first`. With
    n-step transitions and an offset of n it gives those of twice the length.

    Args:
        first: Transitions `[T, ...]`.
        second: Transitions `[T, ...]`.
        offset: How much later; may be traced.
    """
    time = jnp.arange(first.r_t.shape[0])

    def pair(t: jax.Array) -> Transition:
        alone = jax.tree.map(lambda leaf: leaf[t], first)
        inside = t + offset < time.size
        at = jnp.where(inside, t + offset, t)
        both = join(alone, jax.tree.map(lambda leaf: leaf[at], second))
        return jax.tree.map(lambda a, b: jnp.where(inside, b, a), alone, both)

    return jax.vmap(pair)(time)


def n_step_transitions(transitions: Transition, n: int) -> Transition:
    """The n-step transition from every time of a trajectory, `[T, ...]`.

    They stop at the end of an episode and of the trajectory, so the last ones are
    shorter. Any loss of one transition makes an n-step method of them. Takes
    `log2(n)` passes.

    Args:
        transitions: Consecutive transitions `[T, ...]`, possibly of several episodes.
        n: Number of steps, static.

    Raises:
        ValueError: `n < 1`.

    Example:
        >>> no, ones, s = jnp.zeros(4, bool), jnp.ones(4), jnp.arange(5)
        >>> steps = Transition(s[:-1], s[:-1], ones, s[1:], no, no, ones / 2, ones)
        >>> n_step_transitions(steps, 3).r_t.tolist()
        [1.75, 1.75, 1.5, 1.0]
    """
    if n < 1:
        raise ValueError(f"n={n}: expected at least 1")
    if n == 1:
        return transitions
    half = n_step_transitions(transitions, n // 2)
    doubled = join_later(half, half, n // 2)
    return join_later(doubled, transitions, n - 1) if n % 2 else doubled
