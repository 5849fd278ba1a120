"""What tracking and progress cost: the main job with all of it on and with all off.

    python scripts/benchmark_tracking.py [--rounds 5] [OVERRIDE ...]

Both sides run the whole command in a process of its own and take turns; the table shows
the median wall time of each and the median of the ratios, pair by pair. Every second
pair begins with the other side. One whole run before the first fills the compilation
cache.
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
    "tracking.runs=none",
    "tracking.trackio=false",
    "tracking.progress=false",
)


def seconds(overrides: tuple[str, ...], home: pathlib.Path) -> float:
    """Wall time of one run in an empty folder."""
    command = [sys.executable, "-m", "rl_grads.cli.main", "train", *overrides]
    begun = time.perf_counter()
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    return time.perf_counter() - begun


def pair(
    overrides: tuple[str, ...], home: pathlib.Path, on_first: bool
) -> tuple[float, float]:
    """Wall times with all of it on, and with all off."""
    on, off = (*ON, *overrides), (*OFF, *overrides)
    if on_first:
        return seconds(on, home), seconds(off, home)
    return seconds(off, home), seconds(on, home)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    extra = tuple(arguments.overrides)
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        seconds((*OFF, *extra), home)
        pairs = [pair(extra, home, k % 2 == 0) for k in range(arguments.rounds)]
    on, off = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    print("| trackers and progress | median seconds |\n| --- | --- |")
    print(f"| on | {on:.1f} |\n| off | {off:.1f} |")
    print(f"| on / off, pair by pair | {statistics.median(ratios):.3f} |")
    print("the pairs:", *(f"{ratio:.3f}" for ratio in ratios))


if __name__ == "__main__":
    main()
