"""Uniform, PER and gradient-norm replay on MinAtar Breakout, equally tuned.

    python -m experiments.minatar_breakout PICTURE [--seeds 10] [KEY=VALUE ...]

For each scheme the step size of the highest area under the evaluation curve on the
tuning seeds is taken; then every scheme is run on fresh seeds with its own. All step
sizes of a scheme are one population. Prints two tables and draws the curves: what was
learnt, and by how much each scheme changes the variance of the gradient in each run.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_grads.analysis import plots
from rl_grads.analysis.statistics import (
    interval,
    mean,
    mean_improvement,
    probability_of_improvement,
)
from rl_grads.cli import figures
from rl_grads.studies import tuning
from rl_grads.studies.tuning import Outcome
from rl_grads.training import backend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = {"uniform": "buffer", "PER": "per", "gradient norm": "gradient_norm"}
RATE, RATES = "optimizer.learning_rate", (1e-4, 3e-4, 1e-3)
TUNING_SEED, FRESH_SEED = 1000, 0
VARIANCE = "sampling_variance/"


def run(replay: str, arguments: argparse.Namespace) -> Outcome:
    """Tune a scheme, then run it on fresh seeds."""
    config = figures.configure(
        "minatar_breakout", [f"replay={replay}", *arguments.overrides]
    )
    seeds = range(TUNING_SEED, TUNING_SEED + arguments.tuning)
    chosen = tuning.best(tuning.run(config, seeds, {RATE: RATES}), [RATE])
    config.diagnostics.sampling_variance = True
    fresh = range(FRESH_SEED, FRESH_SEED + arguments.seeds)
    (found,) = tuning.run(config, fresh, {RATE: [chosen[RATE]]})
    return found


def table(arms: Mapping[str, Outcome]) -> str:
    """Step size, area, final return and P(better than uniform), in Markdown."""
    head = ("replay", "step size", "area under the curve", "final return", "P(better)")
    rows = [head, ("---",) * len(head)]
    for name, arm in arms.items():
        cells = (_cell(arm.areas), _cell(arm.curve()[1][:, -1]))
        rate = f"{arm.config.optimizer.learning_rate:g}"
        rows.append((name, rate, *cells, _better(arm, arms["uniform"])))
    return _markdown(rows)


def variances(arms: Mapping[str, Outcome]) -> str:
    """Variance relative to uniform by scheme: means over rows and seeds, Markdown."""
    known = [name for arm in arms.values() for name in arm.metrics]
    names = [n for n in dict.fromkeys(known) if n.startswith(VARIANCE)]
    rows = [["variance under", *(f"run of {name}" for name in arms)]]
    rows.append(["---"] * (1 + len(arms)))
    for name in names:
        found = (arm.metrics.get(name) for arm in arms.values())
        cells = ("" if x is None else f"{np.nanmean(x):.3f}" for x in found)
        rows.append([name.removeprefix(VARIANCE), *cells])
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(values: np.ndarray) -> str:
    found = interval(values, mean)
    return f"{float(mean(values)):.2f}{_ends(found.low, found.high)}"


def _better(arm: Outcome, baseline: Outcome) -> str:
    found = probability_of_improvement(arm.areas, baseline.areas)
    value = float(mean_improvement(arm.areas, baseline.areas))
    return "" if arm is baseline else f"{value:.2f}{_ends(found.low, found.high)}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"


def lines(arms: Mapping[str, Outcome]) -> list[plots.Line]:
    """Mean evaluation return over environment steps, with intervals."""
    return [plots.mean_line(name, *arm.curve()) for name, arm in arms.items()]


def figure(given: Sequence[plots.Line], seeds: int) -> "Figure":
    """What `lines` made, for so many seeds."""
    x, y = plots.Axis("environment steps"), plots.Axis("greedy return [reward]")
    title = f"means over n = {seeds} seeds, 95 % bootstrap intervals"
    return plots.lines(given, x, y, title=title)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the three schemes, print the tables and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--tuning", type=int, default=3, help="seeds per step size")
    parser.add_argument("--seeds", type=int, default=10, help="fresh seeds")
    parser.add_argument("overrides", nargs="*", help="config keys")
    arguments = parser.parse_intermixed_args(argv)
    backend.start(figures.configure("minatar_breakout", arguments.overrides))
    arms = {name: run(replay, arguments) for name, replay in ARMS.items()}
    print(table(arms), variances(arms), sep="\n\n")
    plots.save(figure(lines(arms), arguments.seeds), arguments.picture)


if __name__ == "__main__":
    main()
