"""The five-state random walk: what TD(0) learns, and its error beside Monte Carlo's.

    python -m experiments.random_walk   example 6.2 of Sutton & Barto

Left, the values that one run of TD has after some episodes, with the step size of the
config. Right, the error of all states alike at the end of each episode. Every method
sees the same walks, `seeds` of them. Further arguments are KEY=VALUE. Writes
figures/random_walk.png and .pdf.
"""

import sys
from typing import Any

import numpy as np

from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.envs.make import make
from rl_grads.studies import walks
from rl_grads.typing import Section

EPISODES = (1, 10, 100)
TD_STEP_SIZES = (0.05, 0.1, 0.15)
MC_STEP_SIZES = (0.01, 0.02, 0.03, 0.04)


def draw(config: Section) -> dict[str, Any]:
    """Values of one run over states; error over episodes by method and step size."""
    common = walks.sample(
        make(config.env),
        runs=config.seeds,
        episodes=config.training.total_episodes,
        seed=config.seed,
        discount=config.agent.discount,
    )
    return {
        "random_walk": plots.grid([[learned(common, config), errors(common, config)]])
    }


def learned(common: walks.Walks, config: Section) -> plots.Panel:
    """The left half: values over states."""
    start, last = config.network.initial_value, config.training.total_episodes
    counts = [count for count in EPISODES if count <= last]
    setting = walks.Setting(config.optimizer.learning_rate)
    found = walks.values_after(common, walks.TD, setting, counts, start)
    known = np.flatnonzero(np.isfinite(common.values))
    after = {
        0: np.full(len(common.values), start),
        **dict(zip(counts, found, strict=True)),
    }
    lines = [plots.Line("true values", known, common.values[known], style="--")]
    for count, values in after.items():
        lines.append(plots.Line(f"after {count}", known, values[known]))
    return plots.Panel(
        lines, plots.Axis("state", whole=True), plots.Axis("value"), "one run of TD"
    )


def errors(common: walks.Walks, config: Section) -> plots.Panel:
    """The right half: error over episodes."""
    episodes, start = config.training.total_episodes, config.network.initial_value
    whole = walks.monte_carlo(common)
    given = []
    for name, steps, sizes in (
        ("TD", common, TD_STEP_SIZES),
        ("MC", whole, MC_STEP_SIZES),
    ):
        setting = walks.Setting(np.array(sizes))
        errors = walks.episode_errors(steps, walks.TD, setting, start)
        for size, error in zip(sizes, errors, strict=True):
            given.append(plots.Line(f"{name} {size:g}", np.arange(episodes) + 1, error))
            print(f"{name} {size:g}: {error[-1]:.4f} after {episodes} episodes")
    x, y = plots.Axis("episodes"), plots.Axis("root mean square error", low=0.0)
    title = f"means of {config.seeds} runs"
    return plots.Panel(given, x, y, title)


if __name__ == "__main__":
    sys.exit(figures.main("random_walk", __doc__, draw))
