"""The A-split: what each gradient of the TD error takes for the values.

    python -m experiments.a_split   example 11.2 of Sutton & Barto

TD and the residual gradient with double sampling find the true values (1/2, 1, 0), the
naive residual gradient (1/2, 3/4, 1/4). Means over `seeds` members; further arguments
are KEY=VALUE. Writes figures/a_split.png and .pdf.
"""

import sys
from typing import Any

import numpy as np

import rl_grads as rg
from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.typing import Section

METHODS = ("semi", "full", "residual")
STATES = ("A", "B", "C")


def draw(config: Section) -> dict[str, Any]:
    """Learned values of the three states by `agent.td_gradient`."""
    given = []
    for name in METHODS:
        own = rg.replace(config, {"agent.td_gradient": name})
        result = rg.train(members=rg.population(own))
        values = np.mean([params["w"][0] for params in result.params], 0)
        given.append(plots.Line(name, STATES, values))
        print(f"{name}: {np.round(values, 4).tolist()}")
    given.append(plots.Line("true values", STATES, [0.5, 1.0, 0.0], style="--"))
    x, y = plots.Axis("state", whole=True), plots.Axis("value")
    return {"a_split": plots.lines(given, x, y, marker="o")}


if __name__ == "__main__":
    sys.exit(figures.main("a_split", __doc__, draw))
