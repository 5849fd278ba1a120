"""The estimators by name, and which of them knows which learned thing."""

from collections.abc import Iterable
from typing import NamedTuple

from rl_grads.config import ConfigError, nearest
from rl_grads.meta.estimate import Estimator
from rl_grads.meta.evolution import persistent_evolution
from rl_grads.meta.forward import forward
from rl_grads.meta.implicit import implicit
from rl_grads.meta.learned import where_it_acts
from rl_grads.meta.unrolled import (
    bootstrapped,
    first_order,
    full,
    reptile,
    truncated,
)
from rl_grads.typing import PyTree, Section

_MAKERS = {
    "full": full,
    "first_order": first_order,
    "reptile": reptile,
    "implicit": implicit,
    "truncated": truncated,
    "forward": forward,
    "bootstrapped": bootstrapped,
    "persistent_evolution": persistent_evolution,
}


class Valid(NamedTuple):
    """What an estimator says of each kind of learned thing; None: all is well.

    Attributes:
        initial_parameters: Of the initial parameters.
        loss: Of a number inside the inner loss (discount, clip inside the graph).
        update: Of a number after the gradient (learning rate, clip of the update).
        sampling: Of a number that acts by what is drawn (priority exponent,
            exploration), in a form that reaches it.
        semi_gradient: Of inner updates that follow no gradient of a scalar.
    """

    initial_parameters: str | None = None
    loss: str | None = None
    update: str | None = None
    sampling: str | None = None
    semi_gradient: str | None = None


_NO_START = "its derivative does not reach back to the start"
_MANY = "it costs one inner state per learned number"
_IMPLICIT = "the solution does not depend on the way to it"
_REPTILE = "it moves the start to where the updates lead and knows nothing else"
# Reasons why a pair is refused.
REFUSED = {
    "full": Valid(),
    "first_order": Valid(),
    "reptile": Valid(loss=_REPTILE, update=_REPTILE, sampling=_REPTILE),
    "implicit": Valid(
        update=_IMPLICIT,
        sampling=_IMPLICIT,
        semi_gradient="a TD update follows a semi-gradient, not a symmetric loss",
    ),
    "truncated": Valid(initial_parameters=_NO_START),
    "forward": Valid(initial_parameters=_MANY),
    "bootstrapped": Valid(),
    "persistent_evolution": Valid(
        initial_parameters="its noise grows with their number",
        sampling="perturbed numbers change no weight, and it differentiates none",
    ),
}


def by_name(name: str, **options: PyTree) -> Estimator:
    """An estimator.

    Args:
        name: One of `REFUSED`.
        options: Arguments of the function of that name.

    Raises:
        ConfigError: There is none of that name.

    Example:
        >>> by_name("truncated", window=2).name
        'truncated'
    """
    if name not in _MAKERS:
        expected = f"expected one of {', '.join(_MAKERS)}{nearest(name, _MAKERS)}"
        raise ConfigError(f"meta.estimator={name!r}: {expected}")
    return _MAKERS[name](**options)


def check_valid(estimator: str, names: Iterable[str]) -> None:
    """Refuse an estimator that does not know one of the learned things.

    Raises:
        ConfigError: Says why, and which estimators do.

    Example:
        >>> check_valid("reptile", ["agent.discount"])
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: meta.estimator=reptile: expected one that can \
learn agent.discount (full, first_order, implicit, truncated, forward, bootstrapped, \
persistent_evolution); it moves the start to where the updates lead and knows nothing \
else
    """
    for name in names:
        kind = where_it_acts(name)
        reason = getattr(REFUSED[estimator], kind)
        if reason is not None:
            able = [n for n, valid in REFUSED.items() if not getattr(valid, kind)]
            raise ConfigError(
                f"meta.estimator={estimator}: expected one that can learn {name} "
                f"({', '.join(able)}); {reason}"
            )


def from_settings(settings: Section) -> Estimator:
    """The estimator that the section `meta` of a config asks for."""
    options = {
        "full": {"checkpoint": settings.checkpoint},
        "truncated": {"window": settings.window, "checkpoint": settings.checkpoint},
        "forward": {"trace_decay": settings.trace_decay},
        "bootstrapped": {
            "target_steps": settings.target_steps,
            "target_rate": settings.target_rate,
        },
        "persistent_evolution": {
            "particles": settings.particles,
            "noise": settings.noise,
        },
    }
    return by_name(settings.estimator, **options.get(settings.estimator, {}))
