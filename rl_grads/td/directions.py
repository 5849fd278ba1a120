"""Update directions that are no gradient of a scalar, for ONE transition.

A TD error depends on the parameters along two paths: through `v(s_tm1)`, where its
derivative is `-g`, and through `v(s_t)`, where it is `discount_t g_t`. Gradient TD
methods pull a number back along each. Beside the TD error they use its prediction
`<h, g>` by *secondary weights* `h` of the shape of the parameters, learned by least
mean squares; with a linear network `g` is the feature vector and this is the textbook
form. What is pulled back is the direction to *descend*, as of a gradient.

| rule   | along `v(s_tm1)` | along `v(s_t)` | curvature          |
|--------|------------------|----------------|--------------------|
| gtd2   | `rho <h, g>`     | `rho <h, g>`   | `rho delta-<h, g>` |
| tdc    | `rho delta`      | `rho <h, g>`   | `rho delta-<h, g>` |
| tdrc   | `rho delta`      | `rho <h, g>`   | none               |

Nothing is stopped here. All functions are elementwise, so they take batches too.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Real

from rl_grads.arrays import Flags, Numbers

Batched: TypeAlias = Real[Array, "*#batch"]


class Pulled(NamedTuple):
    """What an update pulls back through one TD error.

    Attributes:
        value: Along the path through `v(s_tm1)`.
        bootstrap: Along the path through `v(s_t)`.
        curvature: Along the prediction `<h, g>`, with `h` held: a product with the
            second derivative of `v(s_tm1)`, zero for linear networks; None: left out.
    """

    value: jax.Array
    bootstrap: jax.Array
    curvature: jax.Array | None = None


Rule = Callable[[jax.Array, jax.Array, jax.Array], Pulled]


def secondary_error(
    td_error: Numbers, predicted: Numbers, rho: Numbers
) -> Real[Array, "*batch"]:
    """The error of the secondary weights, `rho td_error - <h, g>`.

    `h` moves along it: `h += step_size * secondary_error * g` (Maei et al. 2009).
    Sutton & Barto (2018, section 11.7) print `rho (td_error - <h, g>)`, which is the
    same in expectation, since the mean of `rho` in a state is one.

    Example:
        >>> float(secondary_error(jnp.array(3.0), 0.5, 2.0))
        5.5
    """
    return jnp.asarray(rho * td_error - predicted)


def gtd2(td_error: Batched, predicted: Batched, rho: Batched) -> Pulled:
    """GTD2 (Sutton et al. 2009): `w += step_size * rho (g - discount_t g_t) <h, g>`.

    For networks that are not linear, less the curvature term of Maei et al. (2009):
    `(rho td_error - <h, g>)` times the second derivative of `v(s_tm1)` along `h`. At
    the best `h` the expected direction is the gradient of half the projected Bellman
    error.

    Example:
        >>> pulled = gtd2(jnp.array(3.0), jnp.array(0.5), jnp.array(2.0))
        >>> [float(x) for x in pulled]
        [1.0, 1.0, 5.5]
    """
    error = secondary_error(td_error, predicted, rho)
    return Pulled(rho * predicted, rho * predicted, error)


def tdc(td_error: Batched, predicted: Batched, rho: Batched) -> Pulled:
    """TDC (Sutton et al. 2009): TD with a gradient correction.

    `w += step_size * rho (td_error g - discount_t <h, g> g_t)`, for networks that are
    not linear less the curvature term of Maei et al. (2009), as in `gtd2`.

    Example:
        >>> pulled = tdc(jnp.array(3.0), jnp.array(0.5), jnp.array(2.0))
        >>> [float(x) for x in pulled]
        [6.0, 1.0, 5.5]
    """
    error = secondary_error(td_error, predicted, rho)
    return Pulled(rho * td_error, rho * predicted, error)


def tdrc(td_error: Batched, predicted: Batched, rho: Batched) -> Pulled:
    """TDRC: TD with regularised corrections; of action values, QRC.

    The step of `w` is that of TDC; that of `h` also draws it to zero. Of the two
    printed forms this is the one of Ghiassian et al. (2020),
    `h += step_size * ((rho td_error - <h, g>) g - regulariser h)`; with Sutton &
    Barto's TDC the ratio would weigh the whole bracket, `rho (td_error - <h, g>)`. As
    in the paper, no curvature term for networks that are not linear.

    Example:
        >>> pulled = tdrc(jnp.array(3.0), jnp.array(0.5), jnp.array(2.0))
        >>> float(pulled.value), float(pulled.bootstrap), pulled.curvature
        (6.0, 1.0, None)
    """
    return Pulled(rho * td_error, rho * predicted)


class FollowOn(NamedTuple):
    """The emphasis of a transition, and the trace that the next one inherits."""

    emphasis: jax.Array
    trace: jax.Array


def follow_on(
    trace: Numbers, rho: Numbers, discount_t: Numbers, ended: Flags
) -> FollowOn:
    """The follow-on trace of emphatic TD with an interest of one.

    `M_t = 1 + discount_t rho_tm1 M_tm1` (Sutton & Barto 2018, section 11.8; Sutton,
    Mahmood & White 2016). The update is that of TD(0), weighed by the emphasis.

    Args:
        trace: What the transition before it left; 0 at first.
        rho: Importance ratio of this transition.
        discount_t: Its discount.
        ended: Whether its episode ends with it, terminated or truncated: the next
            transition then inherits nothing.

    Example:
        >>> emphasis, trace = follow_on(1.5, 2.0, 0.5, False)
        >>> float(emphasis), float(trace)
        (2.5, 2.5)
    """
    emphasis = jnp.asarray(1.0 + trace)
    return FollowOn(emphasis, jnp.where(ended, 0.0, discount_t * rho * emphasis))
