"""One step size per weight, learned: IDBD, TIDBD and the general mechanism.

    python -m experiments.meta_step_size FOLDER [--seeds 10]

The tracking task of Sutton (1992), and a 19-state walk with inputs that say nothing.
Prints errors over the last 10,000 of 30,000 steps as tables, and draws them. A few
minutes on two cores.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rl_grads.analysis import plots
from rl_grads.cli import few_shot
from rl_grads.studies import meta_step_size
from rl_grads.studies.meta_step_size import Setting, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plan(NamedTuple):
    """What is measured: fixed step sizes, and learned ones that begin at `start`."""

    study: Study
    y: plots.Axis
    fixed: Sequence[float]
    start: float
    meta: Sequence[float]


PLANS = {
    "tracking": Plan(
        meta_step_size.TRACKING,
        plots.Axis("mean squared error"),
        (0.01, 0.02, 0.03, 0.035, 0.04, 0.05),
        0.05,
        (0.001, 0.002, 0.003, 0.005, 0.007, 0.01),
    ),
    "walk": Plan(
        meta_step_size.WALK,
        plots.Axis("mean squared value error [reward²]", log=True),
        (0.01, 0.02, 0.03, 0.04, 0.045, 0.05),
        0.02,
        (0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    ),
}
METHODS = {
    "IDBD, TIDBD": meta_step_size.by_tidbd,
    "meta-gradient": meta_step_size.by_meta_gradient,
}


SEEDS = 10


class Found(NamedTuple):
    """Points with step sizes that stay, and with those that are learned."""

    constant: list[plots.Point]
    moved: list[plots.Point]


def measure(plan: Plan, seeds: int) -> Found:
    """Errors of all settings."""
    return Found(fixed(plan, seeds), learned(plan, seeds))


def fixed(plan: Plan, seeds: int) -> list[plots.Point]:
    """Errors of step sizes that stay."""
    zeros = np.zeros(len(plan.fixed))
    setting = Setting(np.array(plan.fixed), zeros, zeros)
    found = meta_step_size.measure(plan.study, meta_step_size.by_tidbd, setting, seeds)
    return _points("fixed", plan.fixed, found)


def learned(plan: Plan, seeds: int) -> list[plots.Point]:
    """Errors of step sizes that are learned, by method and meta step size."""
    zeros = np.zeros(len(plan.meta))
    setting = Setting(zeros + plan.start, np.array(plan.meta), zeros)
    points = []
    for name, method in METHODS.items():
        found = meta_step_size.measure(plan.study, method, setting, seeds)
        points += _points(name, plan.meta, found)
    return points


def _points(
    name: str, numbers: Sequence[float], found: meta_step_size.Outcome
) -> list[plots.Point]:
    errors = np.asarray(found.error, float)
    return [plots.Point(x, name, e) for x, e in zip(numbers, errors, strict=True)]


def table(points: list[plots.Point]) -> str:
    """Means over seeds with their intervals, in Markdown."""
    rows = [f"| {p.line} | {p.x:g} | {few_shot.cell(p.values)} |" for p in points]
    return "\n".join(["| method | number | error |", "|---|---|---|", *rows])


def figure(plan: Plan, found: Found) -> "Figure":
    """Errors over the meta step size, beside the best step size that stays."""
    best = min(
        found.constant, key=lambda p: np.nan_to_num(np.mean(p.values), nan=np.inf)
    )
    ends = (plan.meta[0], plan.meta[-1])
    level = [best._replace(x=x, line=f"fixed, {best.x:g}") for x in ends]
    worst = 1.5 * float(np.mean(best.values))
    x = plots.Axis("meta step size")
    return plots.sensitivity(level + found.moved, x, plan.y, worst=worst)


def main() -> None:
    """Measure, print the tables and write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    for name, plan in PLANS.items():
        found = measure(plan, arguments.seeds)
        print(f"{name}\n\n{table(found.constant + found.moved)}\n", flush=True)
        picture = arguments.folder / f"meta_step_size_{name}.png"
        plots.save(figure(plan, found), picture)


if __name__ == "__main__":
    main()
