"""Figure 1 of Schaul et al. 2016: updates until the Blind Cliffwalk is learnt.

    python -m experiments.blind_cliffwalk PICTURE [--states 4 6 8 10] [--seeds 100]

Prints medians over the seeds as a table, and draws them. Under a minute on two cores.
"""

import argparse
import pathlib
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rl_grads.studies.blind_cliffwalk import SCHEMES, updates_to_learn


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


def draw(
    states: Sequence[int], updates: dict[str, list[np.ndarray]], picture: pathlib.Path
) -> None:
    """Medians and quartiles over the number of transitions."""
    sizes = [2 ** (n + 1) - 2 for n in states]
    figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for name, each in updates.items():
        low, middle, high = np.quantile(each, [0.25, 0.5, 0.75], axis=1)
        axes.plot(sizes, middle, marker="o", markersize=3, label=name)
        axes.fill_between(sizes, low, high, alpha=0.2)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("transitions in the memory")
    axes.set_ylabel("updates until learnt")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Measure, print the table and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--states", type=int, nargs="+", default=[4, 6, 8, 10])
    parser.add_argument("--seeds", type=int, default=100)
    arguments = parser.parse_args()
    updates = measure(arguments.states, arguments.seeds)
    print(table(arguments.states, updates))
    draw(arguments.states, updates, arguments.picture)


if __name__ == "__main__":
    main()
