"""The nineteen-state random walk: n-step TD, or TD(lambda), over step sizes.

    python -m experiments.random_walk_19                  figure 7.2 of Sutton & Barto
    python -m experiments.random_walk_19 agent=td_lambda  figure 12.6

The error is that of all states alike at the end of each of the first ten episodes.
Every setting sees the same walks, `seeds` of them. Further arguments are KEY=VALUE.
Writes figures/random_walk_19_AGENT.png and .pdf.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.config import schema_name
from rl_grads.envs.make import make
from rl_grads.studies import walks
from rl_grads.typing import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP_SIZES = np.linspace(0, 1, 11)
TRACE_DECAYS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
CEILING = 0.55  # The error of what is known at first.


def errors(common: walks.Walks, config: Section) -> dict[str, np.ndarray]:
    """Error over step sizes, by n or by lambda."""
    start = config.network.initial_value
    found = {}
    if schema_name(config.agent) != "td_lambda":
        for n, steps in walks.doublings(common, 10):
            setting = walks.Setting(STEP_SIZES)
            found[f"n = {n}"] = walks.episode_errors(steps, walks.TD, setting, start)
    else:
        method = walks.td_lambda(config.agent.trace)
        for decay in TRACE_DECAYS:
            setting = walks.Setting(STEP_SIZES, decay)
            off = walks.episode_errors(common, method, setting, start)
            found[f"lambda = {decay:g}"] = off
    return {label: off.mean(-1) for label, off in found.items()}


def measure(config: Section) -> dict[str, np.ndarray]:
    """The same for the walks that the config names."""
    common = walks.sample(
        make(config.env),
        runs=config.seeds,
        episodes=config.training.total_episodes,
        seed=config.seed,
        discount=config.agent.discount,
    )
    return errors(common, config)


def draw(config: Section) -> dict[str, Any]:
    """The figure of the agent that the config names."""
    found = measure(config)
    for label, off in found.items():
        best = int(np.nanargmin(off))
        print(f"{label}: best {off[best]:.4f} at step size {STEP_SIZES[best]:.1f}")
    made = figure(found, config.training.total_episodes, config.seeds)
    return {f"random_walk_19_{schema_name(config.agent)}": made}


def figure(found: Mapping[str, np.ndarray], episodes: int, runs: int) -> "Figure":
    """Error over step sizes, a line for each setting; what `errors` found."""
    return plots.lines(
        [plots.Line(label, STEP_SIZES, off) for label, off in found.items()],
        plots.Axis("step size"),
        plots.Axis("root mean square error", low=0.25, high=CEILING),
        title=f"means over n = {runs} runs, first {episodes} episodes",
    )


if __name__ == "__main__":
    sys.exit(figures.main("random_walk_19", __doc__, draw))
