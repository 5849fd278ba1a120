"""The thousand-state walk: values of ten groups, learned by TD and by Monte Carlo.

    python -m experiments.thousand_state   figures 9.1 and 9.2 (left) of Sutton & Barto

TD(0) and TD(1), which for small step sizes is Monte Carlo, learn online; dashed lines
are the fixed points that they have in theory. Below, how often a state is visited.
Means over `seeds` members; further arguments are KEY=VALUE. Writes
figures/thousand_state.png and .pdf.
"""

import sys
from typing import Any

import numpy as np

import rl_grads as rg
from rl_grads.agents.schema import TDLambda
from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.envs.make import make

METHODS = {"TD(0)": 0.0, "Monte Carlo": 1.0}


def draw(config: Any) -> dict[str, Any]:
    """Values over states: exact, learned, and where learning ends in theory."""
    chain = make(config.env).exact
    states = np.flatnonzero(~chain.terminal)
    features = chain.features[states]
    given = [plots.Line("true values", states, chain.values[states])]
    fixed = {"TD(0)": chain.td_fixed_point, "Monte Carlo": chain.mc_fixed_point}
    for name, trace_decay in METHODS.items():
        agent = TDLambda(config.agent.discount, trace_decay=trace_decay)
        result = rg.train(members=rg.population(rg.replace(config, {"agent": agent})))
        weights = np.mean([params["w"][0] for params in result.params], 0)
        given.append(plots.Line(name, states, features @ weights))
        theory = features @ fixed[name]
        given.append(plots.Line(f"{name}, in theory", states, theory, style="--"))
        off = np.abs(weights - fixed[name]).max()
        print(f"{name}: weights within {off:.3f} of the fixed point")
    x, visits = (
        plots.Axis("state"),
        plots.Line("visits", states, chain.distribution[states]),
    )
    values = plots.Panel(given, x, plots.Axis("value"))
    below = plots.Panel([visits], x, plots.Axis("part of the time", low=0.0))
    return {"thousand_state": plots.grid([[values], [below]])}


if __name__ == "__main__":
    sys.exit(figures.main("thousand_state", __doc__, draw))
