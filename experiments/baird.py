"""Baird's counterexample: which gradients of the TD error diverge off policy.

    python -m experiments.baird   as figures 11.2 and 11.5 of Sutton & Barto

Value error and projected Bellman error over steps, interquartile means of `seeds`
members. Further arguments are KEY=VALUE. Writes figures/baird.png and .pdf, and
figures/baird_rmspbe.png and .pdf.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rl_grads as rg
from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.tracking.metrics import axis_label
from rl_grads.typing import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = {"baird": "evaluation/rmsve", "baird_rmspbe": "evaluation/rmspbe"}
METHODS = {
    "semi": {},
    "full": {},
    "residual": {},
    "gtd2": {"agent.secondary.learning_rate_ratio": 10.0},
    "tdc": {"agent.secondary.learning_rate_ratio": 10.0},
    "tdrc": {},
    "emphatic": {},
}


def draw(config: Section) -> dict[str, Any]:
    """Both errors over steps by `agent.td_gradient`."""
    found = measure(config)
    return {name: figure(name, lines, config.seeds) for name, lines in found.items()}


def figure(name: str, lines: Sequence[plots.Line], members: int) -> "Figure":
    """One of `FIGURES`, of the lines that `measure` found for it."""
    y = plots.Axis(axis_label(FIGURES[name]), log=True)
    return plots.compared(lines, [members], y)


def measure(config: Section) -> dict[str, list[plots.Line]]:
    """The lines of each figure."""
    results = {}
    for name, settings in METHODS.items():
        own = rg.replace(config, {"agent.td_gradient": name, **settings})
        results[name] = rg.train(members=rg.population(own))
        summary = results[name].summary()
        ends = [f"{m} {summary[m]['iqm']['value']:.4g}" for m in FIGURES.values()]
        print(f"{name}: {', '.join(ends)}")
    return {
        name: [
            plots.iqm_line(plots.Series(method, one.steps, one.metrics[metric]))
            for method, one in results.items()
        ]
        for name, metric in FIGURES.items()
    }


if __name__ == "__main__":
    sys.exit(figures.main("baird", __doc__, draw))
