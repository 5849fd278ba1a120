"""Step sizes that learn themselves: one for each weight (IDBD and TIDBD).

Each weight has the step size `exp(log_step)`. Its derivative in its own `log_step` is
carried forward along the updates; what the other weights do to it is left out, so one
number per weight is enough. The full derivative needs one state per step size, see
`rl_grads.meta.forward`; where no two inputs are active at once both are the same.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads.arrays import Number
from rl_grads.td import traces
from rl_grads.td.traces import Trace, Value
from rl_grads.td.transition import Transition
from rl_grads.typing import Params


class StepSizes(NamedTuple):
    """What TIDBD carries; `log_step` and `slope` have the shape of the weights.

    Attributes:
        log_step: `beta`, logarithms of the step sizes.
        slope: `h`, the derivative of each weight in its own `log_step`.
        trace: Eligibility.
    """

    log_step: Any
    slope: Any
    trace: Trace


class Settings(NamedTuple):
    """Numbers of TIDBD.

    Attributes:
        meta_step: theta, the step of `log_step`; 0 leaves the step sizes as they are.
        trace_decay: lambda.
    """

    meta_step: Number
    trace_decay: Number = 0.0


class Learned(NamedTuple):
    """New weights, the state for the next transition, and the TD(0) error."""

    params: Any
    state: StepSizes
    td_error: jax.Array


def start(params: Params, step_size: Number) -> StepSizes:
    """The state before a first transition, with equal step sizes.

    Example:
        >>> start(jnp.zeros(2), 1.0).log_step.tolist()
        [0.0, 0.0]
    """
    log_step = jax.tree.map(
        lambda w: jnp.broadcast_to(jnp.log(jnp.asarray(step_size, w.dtype)), w.shape),
        params,
    )
    return StepSizes(
        log_step, jax.tree.map(jnp.zeros_like, params), traces.start(params)
    )


def tidbd(
    value: Value,
    state: StepSizes,
    params: Params,
    transition: Transition,
    settings: Settings,
) -> Learned:
    """One update of the weights and of their step sizes at ONE transition.

    Semi-gradient TIDBD (Kearney et al. 2018, algorithm 1) with an accumulating trace,
    on policy and for values linear in the parameters. With `x` the gradient of the
    value of `s_tm1`, `z` the trace and `alpha = exp(beta)`, element by element

        beta += theta delta x h
        w    += alpha delta z
        h     = h max(0, 1 - alpha x z) + alpha delta z

    A transition of discount 0 whose reward is a target makes it IDBD (Sutton 1992), if
    lambda is 0 too; theta = 0 makes it TD(lambda), or least mean squares.

    Args:
        value: `value(params, obs) -> v`, a scalar.
        state: `start(params, step_size)`, or what the last transition left.
        params: Weights; they bootstrap, too.
        transition: One transition, the successor of the last one.
        settings: Numbers.

    Example:
        >>> value = lambda w, x: w @ x
        >>> w, no, x = jnp.zeros(2), jnp.bool_(False), jnp.array([1.0, 2.0])
        >>> step = Transition(x, 0, 3.0, x, no, no, 0.0, 1.0)
        >>> after = tidbd(value, start(w, 0.125), w, step, Settings(0.5))
        >>> after.params.tolist(), after.state.slope.tolist()
        ([0.375, 0.75], [0.375, 0.75])
    """
    numbers = traces.Settings("accumulating", settings.trace_decay, 0.0)
    found = traces.td_lambda(value, state.trace, params, params, transition, numbers)
    delta, z = found.td_error, found.trace.eligibility
    x = jax.grad(value)(params, transition.s_tm1)
    log_step = jax.tree.map(
        lambda beta, x, h: beta + settings.meta_step * delta * x * h,
        state.log_step,
        x,
        state.slope,
    )
    step = jax.tree.map(lambda beta, z: jnp.exp(beta) * delta * z, log_step, z)
    slope = jax.tree.map(
        lambda h, beta, x, z, step: (
            h * jnp.maximum(0.0, 1 - jnp.exp(beta) * x * z) + step
        ),
        state.slope,
        log_step,
        x,
        z,
        step,
    )
    new = jax.tree.map(jnp.add, params, step)
    return Learned(new, StepSizes(log_step, slope, found.trace), delta)
