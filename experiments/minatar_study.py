"""Uniform, PER and gradient-norm replay on MinAtar Breakout, equally tuned.

    python -m experiments.minatar_study PICTURE [--seeds 10] [KEY=VALUE ...]

For each scheme the step size of the highest area under the evaluation curve on the
tuning seeds is taken; then every scheme is run on fresh seeds with its own. All step
sizes of a scheme are one population. Prints a table and draws the curves.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import rl_grads as rg
from rl_grads.analysis import plots
from rl_grads.analysis.statistics import (
    interval,
    mean,
    mean_improvement,
    probability_of_improvement,
)
from rl_grads.cli import figures
from rl_grads.training import backend

ARMS = {"uniform": "buffer", "PER": "per", "gradient norm": "gradient_norm"}
RATES = (1e-4, 3e-4, 1e-3)
TUNING_SEED, FRESH_SEED = 1000, 0
RETURN = "evaluation/return"


@dataclasses.dataclass(frozen=True)
class Arm:
    """What a scheme did with its best step size on fresh seeds."""

    rate: float
    result: Any

    @property
    def areas(self) -> np.ndarray:
        """Area under the evaluation curve, as the mean return over time `[seeds]`."""
        return mean(evaluated(self.result)[1])


def evaluated(result: Any) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps `[n]` and greedy returns `[members, n]` of the evaluations."""
    there = ~np.isnan(result.metrics[RETURN]).all(0)
    return result.steps[there], result.metrics[RETURN][:, there]


def tuned(config: Any, seeds: int) -> float:
    """The step size of the highest mean area on the tuning seeds."""
    members = rg.population(
        config,
        seeds=range(TUNING_SEED, TUNING_SEED + seeds),
        sweep={"optimizer.learning_rate": list(RATES)},
    )
    areas = mean(evaluated(rg.train(members=members))[1])
    return RATES[int(np.argmax(areas.reshape(len(RATES), seeds).mean(1)))]


def run(replay: str, arguments: argparse.Namespace) -> Arm:
    """Tune a scheme, then run it on fresh seeds."""
    config = figures.configure(
        "minatar_breakout", [f"replay={replay}", *arguments.overrides]
    )
    rate = tuned(config, arguments.tuning)
    config = rg.replace(config, {"optimizer.learning_rate": rate})
    fresh = range(FRESH_SEED, FRESH_SEED + arguments.seeds)
    return Arm(rate, rg.train(members=rg.population(config, seeds=fresh)))


def table(arms: Mapping[str, Arm]) -> str:
    """Step size, area, final return and P(better than uniform), in Markdown."""
    head = ("replay", "step size", "area under the curve", "final return", "P(better)")
    rows = [head, ("---",) * len(head)]
    for name, arm in arms.items():
        cells = (_cell(arm.areas), _cell(arm.result.metrics[RETURN][:, -1]))
        rows.append((name, f"{arm.rate:g}", *cells, _better(arm, arms["uniform"])))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(values: np.ndarray) -> str:
    found = interval(values, mean)
    return f"{float(mean(values)):.2f}{_ends(found.low, found.high)}"


def _better(arm: Arm, baseline: Arm) -> str:
    found = probability_of_improvement(arm.areas, baseline.areas)
    value = float(mean_improvement(arm.areas, baseline.areas))
    return "" if arm is baseline else f"{value:.2f}{_ends(found.low, found.high)}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"


def draw(arms: Mapping[str, Arm], picture: pathlib.Path) -> None:
    """Mean evaluation return over environment steps, with intervals."""
    lines = []
    for name, arm in arms.items():
        steps, curves = evaluated(arm.result)
        ends = [interval(column, mean)[:2] for column in curves.T]
        low, high = np.array(ends, float).T
        lines.append(plots.Line(name, steps, mean(curves.T), low, high))
    figure = plots.lines(
        lines, plots.Axis("environment steps"), plots.Axis("greedy return")
    )
    figure.savefig(picture, dpi=90, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> None:
    """Run the three schemes, print the table and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--tuning", type=int, default=3, help="seeds per step size")
    parser.add_argument("--seeds", type=int, default=10, help="fresh seeds")
    parser.add_argument("overrides", nargs="*", help="config keys")
    arguments = parser.parse_args(argv)
    backend.start(figures.configure("minatar_breakout", arguments.overrides))
    arms = {name: run(replay, arguments) for name, replay in ARMS.items()}
    print(table(arms))
    draw(arms, arguments.picture)


if __name__ == "__main__":
    main()
