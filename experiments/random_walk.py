"""The five-state random walk: TD(0) against Monte Carlo, error over episodes.

    python -m experiments.random_walk   example 6.2 of Sutton & Barto, its right half

The error is that of all states alike at the end of each episode. Every method sees the
same walks, `seeds` of them. Further arguments are KEY=VALUE. Writes
figures/random_walk.png and .pdf.
"""

import sys
from typing import Any

import numpy as np

from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.envs.make import make
from rl_grads.training import walks

TD_STEP_SIZES = (0.05, 0.1, 0.15)
MC_STEP_SIZES = (0.01, 0.02, 0.03, 0.04)


def draw(config: Any) -> dict[str, Any]:
    """Error over episodes by method and step size."""
    episodes, start = config.training.total_episodes, config.network.initial_value
    common = walks.sample(
        make(config.env), config.seeds, episodes, config.seed, config.agent.discount
    )
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
    return {"random_walk": plots.lines(given, x, y, title=title)}


if __name__ == "__main__":
    sys.exit(figures.main("random_walk", __doc__, draw))
