"""Config of meta-learning. Imports no JAX."""

from typing import Any

from rl_grads.config import (
    SCHEMAS,
    at_least,
    config,
    group,
    number,
    one_of,
    positive,
    setting,
    unit,
)
from rl_grads.typing import PyTree

ESTIMATORS = (
    "full",
    "first_order",
    "reptile",
    "implicit",
    "truncated",
    "forward",
    "bootstrapped",
    "persistent_evolution",
)

SAMPLING = ("soft_weights", "behaviour_matching")


def _adam() -> PyTree:
    return SCHEMAS["optimizer/adam"]()


@config
class Meta:
    """Learning numbers of the config while an agent trains (`learn: null` is off)."""

    learn: tuple[str, ...] | None = setting(
        None, "dotted paths of the numbers to learn; null: none"
    )
    sampling: tuple[str, ...] | None = setting(
        None,
        "forms that reach what acts by sampling: replay.exponent (soft_weights), "
        "agent.behaviour_policy (behaviour_matching); null: none",
        one_of(*SAMPLING),
    )
    estimator: str = setting("full", "of the meta-gradient", one_of(*ESTIMATORS))
    steps: int = setting(
        1, "inner updates before an outer one; divides the updates", at_least(1)
    )
    outer_discount: float | None = number(
        None, "discount of the outer loss, held fixed; null: agent.discount", unit
    )
    optimizer: Any = group(_adam, "the outer optimizer")
    window: int = setting(
        1, "last inner updates that are differentiated (truncated)", at_least(1)
    )
    trace_decay: float = number(1.0, "decay of the trace per update (forward)", unit)
    target_steps: int = setting(
        0, "further updates towards the target (bootstrapped)", at_least(0)
    )
    target_rate: float = number(
        0.1, "outer step at the end of the target (bootstrapped)", positive
    )
    particles: int = setting(8, "antithetic pairs (persistent_evolution)", at_least(1))
    noise: float = number(
        0.1, "standard deviation of the perturbations (persistent_evolution)", positive
    )
    checkpoint: str | None = setting(
        "step",
        "what the backward pass computes again (full, truncated)",
        one_of("step", "sqrt"),
    )
    truth_meter: bool = setting(
        False, "log cosine and bias against the full unroll, which costs as much"
    )
