"""Baird's counterexample: which gradients of the TD error diverge off policy.

    python -m experiments.baird   as figures 11.2 and 11.5 of Sutton & Barto

Value error over steps, interquartile means of `seeds` members. Further arguments are
KEY=VALUE. Writes figures/baird.png and .pdf.
"""

import sys
from typing import Any

import rl_grads as rg
from rl_grads.analysis import plots
from rl_grads.cli import figures

METRIC = "evaluation/rmsve"
METHODS = {
    "semi": {},
    "full": {},
    "residual": {},
    "gtd2": {"agent.secondary.learning_rate_ratio": 10.0},
    "tdc": {"agent.secondary.learning_rate_ratio": 10.0},
    "tdrc": {},
    "emphatic": {},
}


def draw(config: Any) -> dict[str, Any]:
    """Value error over steps by `agent.td_gradient`."""
    runs = []
    for name, settings in METHODS.items():
        own = rg.replace(config, {"agent.td_gradient": name, **settings})
        result = rg.train(members=rg.population(own))
        runs.append(plots.Series(name, result.steps, result.metrics[METRIC]))
        print(f"{name}: {result.summary()[METRIC]['iqm']['value']}")
    return {"baird": plots.curves(runs, METRIC, log_y=True)}


if __name__ == "__main__":
    sys.exit(figures.main("baird", __doc__, draw))
