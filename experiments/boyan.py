"""Boyan's chain: how sensitive each gradient of the TD error is to the step size.

    python -m experiments.boyan   as figure 2 of Sutton et al. (2009), on Boyan's chain

Projected Bellman error at the end, means over `seeds` members; step sizes and seeds
train in one program for each method. Further arguments are KEY=VALUE. Writes
figures/boyan.png and .pdf.
"""

import sys
from typing import Any

import rl_grads as rg
from rl_grads.analysis import plots
from rl_grads.cli import figures, plot
from rl_grads.typing import Section

METRIC = "evaluation/rmspbe"
METHODS = ("semi", "full", "residual", "gtd2", "tdc", "tdrc")
STEP_SIZES = tuple(2.0**k for k in range(-8, 2))
WORST = 2.5


def draw(config: Section) -> dict[str, Any]:
    """Bellman error over step sizes by `agent.td_gradient`."""
    sweep = {"agent.td_gradient": METHODS, "optimizer.learning_rate": STEP_SIZES}
    members = rg.population(config, sweep=sweep)
    result = rg.train(members=members)
    points = plots.sweep_points(
        [m.config.optimizer.learning_rate for m in members],
        [m.config.agent.td_gradient for m in members],
        result.final()[METRIC],
        [at >= 0 for at in result.diverged_at],
    )
    over = plot.Over("optimizer.learning_rate", METRIC, worst=WORST)
    return {"boyan": plot.over_setting(points, over)}


if __name__ == "__main__":
    sys.exit(figures.main("boyan", __doc__, draw))
