"""What the commands share that read many runs."""

import argparse
import functools
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rl_grads.results import Runs

_PATH = "a run, a point, a sweep, or a folder above them"


def add_paths(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which runs, and which metric of them."""
    parser.add_argument(
        "paths", type=pathlib.Path, nargs="+", metavar="PATH", help=_PATH
    )
    parser.add_argument(
        "--metric", help="default: evaluation/return or evaluation/rmsve"
    )


def load(command: str, options: argparse.Namespace) -> "Runs":
    """The runs that a command is asked for; what is left out is told.

    Raises:
        ConfigError: There are none.
    """
    from rl_grads import results

    return results.load(*options.paths, tell=functools.partial(tell, command))


def tell_unfinished(command: str, runs: "Runs") -> None:
    """Say whose last values are not their final ones."""
    waiting = [p for p in runs.points if not p.has_ended]
    if waiting:
        count = f"{len(waiting)} of {len(runs.points)} points"
        tell(command, f"{count} not finished, taken as far: {waiting[0].directory}")


def tell_repeated(command: str, count: int) -> None:
    """Say how many members are counted once, as their seed was run again."""
    if count:
        tell(command, f"{count} members repeat a config and seed: the last run counts")


def tell(command: str, line: str) -> None:
    """Say a line on standard error."""
    print(f"{command}: {line}", file=sys.stderr)
