"""Studies: settings are tuned on some seeds, and what was chosen is run on others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_grads import config as configs
from rl_grads.analysis.statistics import mean
from rl_grads.tracking.metrics import higher_is_better
from rl_grads.training.population import population
from rl_grads.training.schema import Config
from rl_grads.training.train import train
from rl_grads.typing import PyTree

RETURN = "evaluation/return"


class Outcome(NamedTuple):
    """What one setting came to, on several seeds.

    Attributes:
        config: The config of its members.
        steps: Environment steps at each row, `[time]`.
        metrics: Metric to values `[seeds, time]`; nan where it was not measured.
    """

    config: Config
    steps: np.ndarray
    metrics: dict[str, np.ndarray]

    def curve(self, metric: str = RETURN) -> tuple[np.ndarray, np.ndarray]:
        """Steps `[n]` and values `[seeds, n]` where a metric was measured.

        Example:
            >>> rows = np.array([[np.nan, 1.0, np.nan, 3.0]])
            >>> run = Outcome(Config(), np.array([10, 20, 30, 40]), {RETURN: rows})
            >>> [x.tolist() for x in run.curve()]
            [[20, 40], [[1.0, 3.0]]]
        """
        found = self.metrics[metric]
        there = ~np.isnan(found).all(0)
        return self.steps[there], found[:, there]

    @property
    def areas(self) -> np.ndarray:
        """Area under the evaluation curve, as the mean return over time `[seeds]`."""
        return self.areas_of(RETURN)

    def areas_of(self, metric: str) -> np.ndarray:
        """Area under the curve of a metric, as its mean over time `[seeds]`."""
        return mean(self.curve(metric)[1])


def run(
    config: Config, seeds: Iterable[int], sweep: Mapping[str, Sequence[PyTree]]
) -> list[Outcome]:
    """Train every combination of the swept values on every seed.

    Those that differ in numbers alone are one population.

    Args:
        config: What they share.
        seeds: Seeds.
        sweep: Dotted path to the values it takes.

    Returns:
        One outcome per combination, the last path varying fastest.

    Example:
        >>> rates = {"optimizer.learning_rate": [1e-4, 1e-3]}
        >>> found = run(Config(), range(3), rates)                 # doctest: +SKIP
        >>> chosen = best(found, rates)                            # doctest: +SKIP
    """
    seeds = tuple(seeds)
    members = population(config, seeds, sweep)
    result = train(members=members)
    outcomes = []
    for begin in range(0, len(members), len(seeds)):
        of = slice(begin, begin + len(seeds))
        metrics = {name: rows[of] for name, rows in result.metrics.items()}
        outcomes.append(Outcome(members[begin].config, result.steps, metrics))
    return outcomes


def best(
    outcomes: Sequence[Outcome], paths: Iterable[str], metric: str = RETURN
) -> dict[str, PyTree]:
    """The values at some paths with the best mean area, over all other paths.

    A mean that is not finite is worse than all others.

    Args:
        outcomes: What was tuned.
        paths: Dotted paths among the swept ones.
        metric: What is compared; its declaration says which end is the good one.

    Raises:
        ValueError: The metric does not say which.

    Example:
        >>> def outcome(discount, area):
        ...     config = configs.replace(Config(), {"agent.discount": discount})
        ...     return Outcome(config, np.array([10]), {RETURN: np.array([[area]])})
        >>> best([outcome(0.9, 3.0), outcome(0.99, 5.0)], ["agent.discount"])
        {'agent.discount': 0.99}
    """
    paths, higher = tuple(paths), higher_is_better(metric)
    if higher is None:
        raise ValueError(
            f"metric={metric!r}: expected one that says whether higher is better, such "
            f"as {RETURN!r}"
        )
    areas: dict[tuple[Any, ...], list[float]] = {}
    for outcome in outcomes:
        key = tuple(configs.get(outcome.config, path) for path in paths)
        areas.setdefault(key, []).extend(outcome.areas_of(metric))
    sign = 1 if higher else -1
    merits = {
        key: np.nan_to_num(sign * mean(a), nan=-np.inf) for key, a in areas.items()
    }
    return dict(zip(paths, max(merits, key=lambda key: merits[key]), strict=True))
