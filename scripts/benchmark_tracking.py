"""What tracking and progress cost: the main job with all of it on and with all off.

    python scripts/benchmark_tracking.py [--rounds 5] [OVERRIDE ...]

Both sides run the whole command in a process of its own and take turns; the table shows
the median wall time of each and the median of the ratios, pair by pair. One run before
the first fills the compilation cache.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ON = ("tracking.wandb.mode=offline", "tracking.trackio=true", "tracking.progress=true")
OFF = (
    "tracking.wandb.runs=none",
    "tracking.trackio=false",
    "tracking.progress=false",
)


def seconds(overrides: tuple[str, ...], home: pathlib.Path) -> float:
    """Wall time of one run in an empty folder."""
    command = [sys.executable, "-m", "rl_grads.cli.main", "train", *overrides]
    begun = time.perf_counter()
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    extra = tuple(arguments.overrides)
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        seconds(("training.total_steps=4000", *OFF, *extra), home)
        pairs = [
            (seconds((*ON, *extra), home), seconds((*OFF, *extra), home))
            for _ in range(arguments.rounds)
        ]
    on, off = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print("| trackers and progress | median seconds |\n| --- | --- |")
    print(f"| on | {on:.1f} |\n| off | {off:.1f} |\n| on / off | {ratio:.3f} |")


if __name__ == "__main__":
    main()
