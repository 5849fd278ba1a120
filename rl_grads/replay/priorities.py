"""Priorities by name: `(signals, config) -> [B]`, non-negative scores of transitions.

A transition is drawn in proportion to `score ** replay.exponent`. A scheme that needs
more than the TD error, or more than a score, declares it in a `Priority`; an agent
built from a config then takes an estimator that computes it:

    >>> from rl_grads import register
    >>> @register.priority("norm_per_error")
    ... @declare(needs="gradient_norm")
    ... def norm_per_error(signals, config):
    ...     return signals.gradient_norm / (jnp.abs(signals.td_error) + 1e-6)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import register
from rl_grads.replay.schema import Importance
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree

EPSILON = 1e-6  # Without it a transition that once had nothing to teach is lost.


class Priority(NamedTuple):
    """A prioritisation scheme.

    Attributes:
        score: `score(signals, config) -> [B]`.
        needs: The signal that the estimator must compute beside the TD error:
            `"gradient_norm"`, `"gradient_norm_last_layer"` or None.
        keeps: What the memory keeps: `"scores"`, their `"ranks"`, or `"nothing"`, and
            then it draws uniformly.
        resamples: The memory draws `replay.large_batch` batches, out of which the
            estimator draws one by the scores.
    """

    score: Callable[[Any, Any], jax.Array]
    needs: str | None = None
    keeps: str = "scores"
    resamples: bool = False

    def __call__(self, signals: PyTree, config: Config) -> jax.Array:
        """The scores of a batch, `[B]`."""
        return self.score(signals, config)


def declare(
    needs: str | None = None, keeps: str = "scores", resamples: bool = False
) -> Callable[[Callable[[PyTree, PyTree], jax.Array]], Priority]:
    """Decorator that makes a `Priority` of a function; see there for the arguments.

    Example:
        >>> declare(keeps="ranks")(lambda signals, config: signals.td_error).keeps
        'ranks'
    """
    return lambda score: Priority(score, needs, keeps, resamples)


def scheme(config: Config) -> Priority:
    """The scheme of a config; `uniform` where it learns online.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> scheme(Config()).keeps
        'nothing'
    """
    if config.replay is None:
        return uniform
    found = register.get("priority", config.replay.priority)
    return found if isinstance(found, Priority) else Priority(found)


@declare(keeps="nothing")
def uniform(signals: PyTree, config: Config) -> jax.Array:
    """The same score for all; not computed, as the memory keeps nothing."""
    return jnp.ones_like(signals.td_error)


@declare()
def td_error(signals: PyTree, config: Config) -> jax.Array:
    """`|TD error| + 1e-6` (Schaul et al. 2016, section 3.3, proportional variant)."""
    return jnp.abs(signals.td_error) + EPSILON


@declare(keeps="ranks")
def rank(signals: PyTree, config: Config) -> jax.Array:
    """`|TD error|`; the priority is 1 over its rank (Schaul et al. 2016, 3.3)."""
    return jnp.abs(signals.td_error)


@declare()
def loss_adjusted(signals: PyTree, config: Config) -> jax.Array:
    """`max(|TD error|, 1)` (LAP: Fujimoto, Meger & Precup 2020, eq. 14).

    With the Huber loss (`gradient.clip.max_abs=1`) and without importance weights.
    """
    return jnp.maximum(jnp.abs(signals.td_error), 1.0)


@declare(needs="gradient_norm")
def gradient_norm(signals: PyTree, config: Config) -> jax.Array:
    """Norm of the example's own gradient `+ 1e-6`.

    With importance weights this has the least variance of all schemes without bias
    (Zhao & Zhang 2015; Alain et al. 2015). A ValueError for signals without it.
    """
    return _needed(signals.gradient_norm, "gradient_norm") + EPSILON


@declare(needs="gradient_norm_last_layer")
def gradient_norm_last_layer(signals: PyTree, config: Config) -> jax.Array:
    """Norm of the gradient in the last layer's parameters `+ 1e-6`.

    A proxy at the price of a forward pass (Katharopoulos & Fleuret 2018, section 3.2,
    times the norm of the layer's input). For the squared TD error of one action it is
    `|TD error| * |(x, 1)|`, x being what the last layer reads. A ValueError for signals
    without it.
    """
    name = "gradient_norm_last_layer"
    return _needed(signals.extra.get(name), name) + EPSILON


@declare(needs="gradient_norm", keeps="nothing", resamples=True)
def large_batch(signals: PyTree, config: Config) -> jax.Array:
    """Norm of the gradient in a large batch (LaBER: Lahire, Geist & Rachelson 2022)."""
    return gradient_norm(signals, config)


def _needed(signal: jax.Array | None, name: str) -> jax.Array:
    """A signal that only some estimators compute."""
    if signal is None:
        raise ValueError(
            f"priority: expected signals with {name}, got None; give the agent an "
            "estimator that computes it (agents made from a config have one)"
        )
    return signal


def raised(scores: jax.Array, exponent: jax.Array | float) -> jax.Array:
    """`scores ** exponent`; nan where a score is negative or anything is not finite.

    Example:
        >>> raised(jnp.array([4.0, -1.0, jnp.inf]), 0.5).tolist()
        [2.0, nan, nan]
    """
    usable = jnp.isfinite(scores) & (scores >= 0)
    values = (jnp.where(usable, scores, 1.0) ** exponent).astype(scores.dtype)
    return jnp.where(usable & jnp.isfinite(values), values, jnp.nan)


def importance_weights(
    probability: jax.Array, count: jax.Array | int, importance: Importance
) -> jax.Array:
    """`(count * probability) ** -exponent`, normalised (Schaul et al. 2016, 3.4).

    Args:
        probability: Of each drawn transition, `[B]`.
        count: Transitions that could have been drawn.
        importance: Section `replay.importance`: `normalise` divides by the `max` or the
            `mean` of the batch, or by nothing (`none`).

    Example:
        >>> from rl_grads.replay.schema import Importance
        >>> half = Importance(exponent=0.5, normalise="none")
        >>> importance_weights(jnp.array([0.25, 0.0625]), 4, half).tolist()
        [1.0, 2.0]
    """
    weights = (count * probability) ** -importance.exponent
    if importance.normalise == "max":
        return weights / jnp.max(weights)
    return weights / jnp.mean(weights) if importance.normalise == "mean" else weights
