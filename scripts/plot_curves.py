"""Draws a metric of a run over its steps: every member, and their interquartile mean.

python scripts/plot_curves.py RUN docs/images/train.png [--metric evaluation/return]
"""

import argparse
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas

from rl_grads.analysis.statistics import iqm


def main() -> None:
    """Read `metrics.jsonl` of a run and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--metric", default="evaluation/return")
    arguments = parser.parse_args()
    rows = pandas.read_json(arguments.run / "metrics.jsonl", lines=True)
    table = rows.pivot(index="step", columns="seed", values=arguments.metric).dropna()
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axes.plot(table.index, table, color="#9ab", linewidth=0.8)
    axes.plot(table.index, iqm(table.to_numpy()), color="#146", linewidth=2.2)
    axes.set_xlabel("environment steps per member")
    axes.set_ylabel(arguments.metric)
    axes.set_title(f"{table.shape[1]} seeds (thin) and their interquartile mean")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(arguments.picture, dpi=130)


if __name__ == "__main__":
    main()
