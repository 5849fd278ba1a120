"""Wall clock of a sweep, by ours and by Hydra's own sweeper and launchers.

    python scripts/benchmark_sweep.py [--work wide deep] [--rounds 1]

Each side is the command line in a process of its own, files only: no mirrors. `wide` is
linear TD(0) on the 1000-state walk, 16 step sizes x 16 seeds of 10,000 steps each, 256
points; `deep` is Q-learning on CartPole, 8 step sizes x 4 discounts of 20,000 steps, 32
points. Every side begins with an empty compilation cache, as it would on a new machine.
The side with joblib is left out where hydra-joblib-launcher is not installed.
"""

import argparse
import importlib.util
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

FILES_ONLY = (
    "tracking.trackio=false",
    "tracking.wandb.mode=disabled",
    "tracking.progress=false",
)
WORK = {
    "wide": (
        "experiment=thousand_state",
        "training.total_steps=10000",
        "seeds=1",
        "seed=range(16)",
        "optimizer.learning_rate="
        + ",".join(f"{0.001 * 1.5**k:.4g}" for k in range(16)),
    ),
    "deep": (
        "training.total_steps=20000",
        "training.num_envs=10",
        "training.updates_per_iteration=5",
        "seeds=1",
        "optimizer.learning_rate=" + ",".join(f"{0.0001 * 2**k:.4g}" for k in range(8)),
        "agent.discount=.9,.95,.98,.99",
    ),
}
JOBLIB = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}")
SIDES = {
    "populations": (),
    "basic": ("hydra/sweeper=basic",),
    "basic, joblib": ("hydra/sweeper=basic", *JOBLIB),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs="+", default=[*WORK], choices=[*WORK])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    has_joblib = importlib.util.find_spec("joblib") is not None
    sides = [name for name in SIDES if has_joblib or "joblib" not in name]
    if not has_joblib:
        print("without joblib: hydra-joblib-launcher is not installed")
    for work in options.work:
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name in sides:  # One after the other: they alternate.
                seconds[name].append(timed([*WORK[work], *SIDES[name]]))
        show(work, seconds)


def timed(arguments: Sequence[str]) -> float:
    """Seconds of one command line, from the shell."""
    with tempfile.TemporaryDirectory() as place:
        home = pathlib.Path(place)
        environment = {**os.environ, "XDG_CACHE_HOME": str(home / "cache")}
        module = [sys.executable, "-m", "rl_grads.cli.main", "train", "-m"]
        command = [*module, *FILES_ONLY, *arguments]
        begun = time.perf_counter()
        subprocess.run(command, cwd=home, env=environment, check=True, text=True,
                       capture_output=True)  # fmt: skip
        return time.perf_counter() - begun


def show(work: str, seconds: dict[str, list[float]]) -> None:
    """A row for each side, with what ours takes of it."""
    ours = statistics.median(seconds["populations"])
    print(f"{work}: seconds, and how many times ours")
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(f"  {name:16}{middle:8.1f}{middle / ours:8.2f}")


if __name__ == "__main__":
    main()
