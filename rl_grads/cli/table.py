"""`rl-grads table PATH...`: a metric over the keys in which runs differ."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rl_grads.cli import errors, reading

if TYPE_CHECKING:
    pass

COMMAND = "rl-grads table"
_ABOUT = """\
Print final values of a metric as a table: in every cell the interquartile mean or the
mean over seeds, its 95 % bootstrap interval and the number of runs. Marked are the best
of each column and what a permutation test cannot tell from it. Runs that diverged count
with what they have come to."""
_KEYS = "KEY[,KEY]"


def main(argv: Sequence[str]) -> int:
    """Print a table.

    Args:
        argv: Arguments after `rl-grads table`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    options = _parser().parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=_ABOUT)
    reading.add_paths(parser)
    parser.add_argument(
        "--rows",
        type=_keys,
        metavar=_KEYS,
        help="a row for each of their values (default: the first key that differs)",
    )
    parser.add_argument(
        "--columns",
        type=_keys,
        metavar=_KEYS,
        help="a column for each (default: env.id where it differs, or the second key)",
    )
    parser.add_argument("--statistic", choices=("iqm", "mean"), default="iqm")
    parser.add_argument(
        "--format", choices=("text", "markdown", "csv", "latex"), default="text"
    )
    return parser


def _keys(given: str) -> list[str]:
    return [key for key in given.split(",") if key]


def _main(options: argparse.Namespace) -> None:
    from rl_grads.results import formats, table

    runs = reading.load(COMMAND, options)
    rows, columns = table.keys(runs, options.rows, options.columns)
    metric = runs.metric(options.metric)
    made = table.make(runs, metric, rows, columns, options.statistic)
    reading.tell_unfinished(COMMAND, runs)
    reading.tell_repeated(COMMAND, made.repeated)
    print(formats.FORMATS[options.format](made))
