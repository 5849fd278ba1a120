"""Figure 1 of Schaul et al. 2016: updates until the Blind Cliffwalk is learnt.

    python -m experiments.blind_cliffwalk PICTURE [--states 4 6 8 10] [--seeds 100]

Prints medians over the seeds as a table, and draws them. Under a minute on two cores.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_grads.analysis import plots
from rl_grads.studies.blind_cliffwalk import SCHEMES, updates_to_learn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES, SEEDS = (4, 6, 8, 10), 100


def measure(states: Sequence[int], seeds: int) -> dict[str, list[np.ndarray]]:
    """Updates `[seeds]` by scheme, for each number of states."""
    return {
        name: [updates_to_learn(n, scheme(), seeds) for n in states]
        for name, scheme in SCHEMES.items()
    }


def table(states: Sequence[int], updates: dict[str, list[np.ndarray]]) -> str:
    """Medians in Markdown."""
    rows = [["scheme", *(f"{n} states" for n in states)], ["---"] * (len(states) + 1)]
    rows += [
        [name, *(f"{np.median(counts):.0f}" for counts in each)]
        for name, each in updates.items()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def lines(
    states: Sequence[int], updates: dict[str, list[np.ndarray]]
) -> list[plots.Line]:
    """Medians and quartiles over the number of transitions."""
    sizes = [2 ** (n + 1) - 2 for n in states]
    return [
        plots.quartile_line(name.replace("_td", " TD"), sizes, np.transpose(each))
        for name, each in updates.items()
    ]


def figure(given: Sequence[plots.Line], seeds: int) -> "Figure":
    """What `lines` made, for so many seeds."""
    x = plots.Axis("transitions in the memory", log=True)
    y = plots.Axis("updates until learnt", log=True)
    title = f"medians and quartiles over n = {seeds} seeds"
    return plots.lines(given, x, y, title=title, marker="o")


def main() -> None:
    """Measure, print the table and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--states", type=int, nargs="+", default=STATES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    updates = measure(arguments.states, arguments.seeds)
    print(table(arguments.states, updates))
    made = figure(lines(arguments.states, updates), arguments.seeds)
    plots.save(made, arguments.picture)


if __name__ == "__main__":
    main()
