"""The thousand-state walk with groups of states: TD, Monte Carlo and n-step TD.

    python -m experiments.thousand_state   figures 9.1 and 9.2 of Sutton & Barto

Ten groups: TD(0) and TD(1), which for small step sizes is Monte Carlo, learn online;
dashed lines are the fixed points that they have in theory. Below, how often a state is
visited. Means over `seeds` members; further arguments are KEY=VALUE. Twenty groups:
error of n-step TD over step sizes, all states alike, at the end of each of the first
ten episodes of 100 runs. Writes figures/thousand_state.png and
figures/thousand_state_n_step.png, and both as .pdf.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import rl_grads as rg
from rl_grads.agents.schema import TDLambda
from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.envs.make import make
from rl_grads.studies import walks
from rl_grads.typing import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = {"TD(0)": 0.0, "Monte Carlo": 1.0}
GROUPS, RUNS, EPISODES = 20, 100, 10
STEP_SIZES = np.linspace(0, 1, 11)


def draw(config: Section) -> dict[str, Any]:
    """Both figures."""
    return {"thousand_state": values(config), "thousand_state_n_step": n_step(config)}


def n_step(config: Section) -> "Figure":
    """Error of n-step TD over step sizes."""
    environment = make(config.env)
    living = ~environment.exact.terminal
    groups = np.where(living, (living.cumsum() - 1) * GROUPS // living.sum(), 0)
    method = walks.aggregated(walks.TD, groups)
    common = walks.sample(environment, RUNS, EPISODES, config.seed)
    lines = []
    for n, steps in walks.doublings(common, 10):
        off = walks.episode_errors(steps, method, walks.Setting(STEP_SIZES)).mean(-1)
        best = int(np.nanargmin(off))
        print(f"n = {n}: best {off[best]:.4f} at step size {STEP_SIZES[best]:.1f}")
        lines.append(plots.Line(f"n = {n}", STEP_SIZES, off))
    x, y = plots.Axis("step size"), plots.Axis("root mean square error", high=0.56)
    return plots.lines(lines, x, y, title=f"{EPISODES} episodes, {RUNS} runs")


def values(config: Section) -> "Figure":
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
    x = plots.Axis("state", whole=True)
    visits = plots.Line("visits", states, chain.distribution[states])
    above = plots.Panel(given, x, plots.Axis("value"))
    below = plots.Panel([visits], x, plots.Axis("part of the time", low=0.0))
    return plots.grid([[above], [below]])


if __name__ == "__main__":
    sys.exit(figures.main("thousand_state", __doc__, draw))
