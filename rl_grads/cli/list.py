"""`rl-grads list [PATH...]`: what there is, when it ran, and what it came to."""

import argparse
import datetime
import pathlib
from collections.abc import Sequence

from rl_grads.cli import errors, reading
from rl_grads.config import ConfigError

COMMAND = "rl-grads list"
_TOPS = ("runs", "sweeps")
_ABOUT = """\
List runs and sweeps, the newest last: when they began, how long they took, what became
of them, and the interquartile mean of their headline metric with its 95 % bootstrap
interval and the number of runs (of a sweep its best point's)."""


def main(argv: Sequence[str]) -> int:
    """Print what lies below some folders.

    Args:
        argv: Arguments after `rl-grads list`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=_ABOUT)
    parser.add_argument(
        "paths",
        type=pathlib.Path,
        nargs="*",
        metavar="PATH",
        help="folders above runs; a sweep, for its points (default: runs and sweeps)",
    )
    options = parser.parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options.paths))


def _main(given: Sequence[pathlib.Path]) -> None:
    from rl_grads.results import listing, points

    tops = given or [pathlib.Path(top) for top in _TOPS if pathlib.Path(top).is_dir()]
    if not tops:
        raise ConfigError("runs: expected it or sweeps here, or a folder of runs")
    found = points.find(tops)
    for line in points.told(found.not_runs(), found.count):
        reading.tell(COMMAND, line)
    entries = listing.entries(found, tops)
    if not entries:
        raise ConfigError(f"{', '.join(map(str, tops))}: expected a run below it")
    now = datetime.datetime.now().astimezone()
    for entry in entries:
        print("\n".join(listing.told(entry, now)))
