"""Q-learning on CartPole that tunes itself, next to tuned settings that stay.

    python -m experiments.meta_self_tuning PICTURE [--seeds 20] [KEY=VALUE ...]

Step size, discount and clip threshold are learned while the agent trains, by meta-
gradients through K updates, from a step size 30 times too small and 30 times too large.
Fixed settings, and the outer step size of each K, are tuned alike: with as many runs,
on other seeds than those reported. Prints a table and draws the curves.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import rl_grads as rg
from rl_grads import config as configs
from rl_grads.analysis import plots
from rl_grads.analysis.statistics import interval, mean, ratio_of_means
from rl_grads.cli import figures
from rl_grads.studies import tuning
from rl_grads.studies.tuning import Outcome
from rl_grads.training import backend
from rl_grads.typing import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE, DISCOUNT, CLIP = LEARNED = (
    "optimizer.learning_rate",
    "agent.discount",
    "gradient.update.max_norm",
)
OUTER = "meta.optimizer.learning_rate"
FIXED = {RATE: (1e-4, 3e-4, 1e-3, 3e-3), DISCOUNT: (0.99, 0.995)}
STARTS = {"30 times too small": 1 / 30, "30 times too large": 30.0}
OUTER_RATES = (0.01, 0.03, 0.1, 0.3)
STEPS = (1, 5, 20)
TUNING_SEED, FRESH_SEED = 1000, 0
TUNING, FRESH = 10, 20  # How many seeds.
BEST, STILL = "best fixed", "not learned"


class Seeds(NamedTuple):
    """Seeds to tune on, and those reported."""

    tuning: range
    fresh: range


def split(tuning: int, fresh: int) -> Seeds:
    """So many seeds of each kind."""
    return Seeds(
        range(TUNING_SEED, TUNING_SEED + tuning), range(FRESH_SEED, FRESH_SEED + fresh)
    )


class Study(NamedTuple):
    """All outcomes on the fresh seeds.

    Attributes:
        best: The best fixed setting's.
        arms: By start, then by arm.
        outer: The outer step size that was chosen for each K.
    """

    best: Outcome
    arms: dict[str, dict[str, Outcome]]
    outer: dict[int, float]


def best_fixed(config: Section, seeds: Seeds) -> Outcome:
    """The fixed setting of the largest area on the tuning seeds, on fresh ones."""
    chosen = tuning.best(tuning.run(config, seeds.tuning, FIXED), FIXED)
    (outcome,) = tuning.run(rg.replace(config, chosen), seeds.fresh, {})
    return outcome


def learner(config: Section, starts: Sequence[float], seeds: Seeds) -> Section:
    """The outer step size that is best on the tuning seeds, over all starts, set."""
    tried = tuning.run(config, seeds.tuning, {OUTER: OUTER_RATES, RATE: starts})
    return rg.replace(config, tuning.best(tried, [OUTER]))


def measure(config: Section, seeds: Seeds) -> Study:
    """Tune and run everything."""
    still = rg.replace(config, {"meta.learn": None})
    best = best_fixed(still, seeds)
    starts = [factor * configs.get(config, RATE) for factor in STARTS.values()]
    found = {STILL: tuning.run(still, seeds.fresh, {RATE: starts})}
    outer = {}
    for steps in STEPS:
        tuned = learner(rg.replace(config, {"meta.steps": steps}), starts, seeds)
        outer[steps] = configs.get(tuned, OUTER)
        found[f"K = {steps}"] = tuning.run(tuned, seeds.fresh, {RATE: starts})
    arms = {
        start: {label: outcomes[place] for label, outcomes in found.items()}
        for place, start in enumerate(STARTS)
    }
    return Study(best, arms, outer)


# ------------------------------------------------------------------------ what is shown


def table(found: Study) -> str:
    """Area, its part of the best fixed one, and the numbers at the end, in Markdown."""
    head = ("start", "arm", "area", "of best fixed", "step size", "discount", "clip")
    rows = [head, ("---",) * len(head), ("tuned", BEST, *_cells(found.best, found))]
    for start, arms in found.arms.items():
        rows += [
            (start, label, *_cells(outcome, found)) for label, outcome in arms.items()
        ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cells(outcome: Outcome, found: Study) -> tuple[str, ...]:
    areas, whole = outcome.areas, found.best.areas
    ratio = float(mean(areas) / mean(whole))
    ends = ratio_of_means(areas, whole)
    part = "1" if outcome is found.best else _spread(ratio, ends.low, ends.high, ".2f")
    area = _spread(float(mean(areas)), *interval(areas, mean)[:2], ".0f")
    return area, part, *(_number(outcome, path) for path in LEARNED)


def _spread(value: float, low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def _number(outcome: Outcome, path: str) -> str:
    """The median of a learned number at the end, with the quartiles; or what it is."""
    if f"learned/{path}" not in outcome.metrics:
        return f"{configs.get(outcome.config, path):.3g}"
    last = outcome.curve(f"learned/{path}")[1][:, -1]
    low, middle, high = np.quantile(last, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


class Column(NamedTuple):
    """Lines of all arms from one start: returns, and step sizes."""

    start: str
    returns: list[plots.Line]
    rates: list[plots.Line]


def columns(found: Study) -> list[Column]:
    """What is drawn, a column for each start."""
    drawn = []
    for start, arms in found.arms.items():
        every = {BEST: found.best, **arms}
        returns = [
            plots.mean_line(name, *outcome.curve()) for name, outcome in every.items()
        ]
        rates = [_rates(name, outcome) for name, outcome in every.items()]
        drawn.append(Column(start, returns, rates))
    return drawn


def figure(given: Sequence[Column], seeds: int) -> "Figure":
    """Return and step size over environment steps, of so many seeds."""
    x, none = plots.Axis("environment steps"), plots.Axis("")
    y, rate = plots.Axis("greedy return [reward]"), plots.Axis("step size", log=True)
    above = [plots.Panel(c.returns, none, y, f"start {c.start}") for c in given]
    below = [plots.Panel(c.rates, x, rate) for c in given]
    title = (
        f"n = {seeds} seeds; above: means, 95 % bootstrap intervals; "
        "below: medians, quartiles"
    )
    return plots.grid([above, below], title)


def _rates(name: str, outcome: Outcome) -> plots.Line:
    """Medians and quartiles of the step size from the first row on."""
    metric = f"learned/{RATE}"
    if metric not in outcome.metrics:
        rate = configs.get(outcome.config, RATE)
        return plots.Line(name, outcome.steps[[0, -1]], [rate, rate], style="--")
    steps, values = outcome.curve(metric)
    return plots.quartile_line(name, steps, values)


def main(argv: Sequence[str] | None = None) -> None:
    """Tune, run, print the table and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--tuning", type=int, default=TUNING, help="seeds per setting")
    parser.add_argument("--seeds", type=int, default=FRESH, help="fresh seeds")
    parser.add_argument("overrides", nargs="*", help="config keys")
    arguments = parser.parse_intermixed_args(argv)
    config = figures.configure("meta_self_tuning", arguments.overrides)
    backend.start(config)
    found = measure(config, split(arguments.tuning, arguments.seeds))
    chosen = ", ".join(f"{rate:g} (K = {k})" for k, rate in found.outer.items())
    print(f"{table(found)}\n\nouter step sizes: {chosen}")
    plots.save(figure(columns(found), arguments.seeds), arguments.picture)


if __name__ == "__main__":
    main()
