"""Every metric that training reports: its name, unit and meaning. Imports no JAX.

Metrics of a stretch are means over its iterations, but for those marked as totals.
A user's loss adds `loss/NAME` for every entry of its `Signals.extra`.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    """One metric, a number per logged row and member."""

    name: str
    unit: str
    meaning: str


METRICS = (
    Metric(
        "evaluation/return",
        "reward",
        "mean undiscounted return of greedy episodes with the current parameters "
        "(control agents)",
    ),
    Metric("evaluation/length", "steps", "mean length of those episodes"),
    Metric(
        "evaluation/rmsve",
        "reward",
        "root mean square error of the values over the on-policy distribution "
        "(prediction, where the exact values are known)",
    ),
    Metric(
        "training/return",
        "reward",
        "mean undiscounted return of the episodes that ended since the last row; nan "
        "if none did",
    ),
    Metric("training/length", "steps", "mean length of those episodes"),
    Metric("training/episodes", "episodes", "finished since the start, a total"),
    Metric(
        "training/diverged",
        "0 or 1",
        "whether a gradient of this member has been non-finite",
    ),
    Metric("loss/td_error_abs", "reward", "mean absolute TD error of the batches"),
    Metric("loss/td_error_square", "reward²", "mean squared TD error of the batches"),
    Metric("gradient/norm", "-", "L2 norm of the gradient, before any clip"),
)
