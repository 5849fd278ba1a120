"""`rl-grads report PATH...`: runs and sweeps as one HTML page."""

import argparse
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence

from rl_grads.cli import errors
from rl_grads.config import ConfigError
from rl_grads.tracking import folder
from rl_grads.typing import Json

COMMAND = "rl-grads report"
_SECONDS = 10
_ABOUT = """\
Write what runs and sweeps have come to as one HTML file: tables, curves with intervals,
sensitivity to what was swept, gradients over training, and the state of every point. It
needs no network, and shows nothing but what the files say."""


def main(argv: Sequence[str]) -> int:
    """Write a report and say where it lies.

    Args:
        argv: Arguments after `rl-grads report`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    options = _parser().parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=_ABOUT)
    parser.add_argument(
        "paths",
        type=pathlib.Path,
        nargs="+",
        metavar="PATH",
        help="a run, a point, a sweep, or a folder above them",
    )
    parser.add_argument("--metric", help="default: evaluation/return or its like")
    parser.add_argument(
        "--to",
        type=pathlib.Path,
        metavar="FILE",
        help="default: report.html in the first PATH",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"write it again every {_SECONDS} s until every run has ended",
    )
    return parser


def _main(options: argparse.Namespace) -> None:
    target = options.to or options.paths[0] / "report.html"
    going_on = _write(options, target)
    print(f"{os.path.relpath(target)}: open it in a browser")
    while options.watch and going_on:
        time.sleep(_SECONDS)
        going_on = _write(options, target)


def _write(options: argparse.Namespace, target: pathlib.Path) -> bool:
    """Write the file; whether a run has not ended."""
    from rl_grads import atomic
    from rl_grads.results import load
    from rl_grads.results.page import page
    from rl_grads.results.report import make

    runs = load(*options.paths, tell=_tell)
    going_on = not all(point.has_ended for point in runs.points)
    report = make(runs, options.metric)
    refresh = _SECONDS if options.watch and going_on else None
    commands = list(dict.fromkeys(_commands(p.directory for p in runs.points)))
    try:
        atomic.write_bytes(target, page(report, commands, refresh).encode())
    except OSError as error:
        expected = f"expected a file that can be written ({error.strerror})"
        raise ConfigError(f"--to={target}: {expected}") from error
    return going_on


def _tell(line: str) -> None:
    print(f"{COMMAND}: {line}", file=sys.stderr)


def _commands(directories: Iterator[pathlib.Path]) -> Iterator[str]:
    """The command lines of runs, as their folders have them."""
    for directory in directories:
        try:
            document = folder.read_document(directory / folder.RUN)
        except ConfigError:
            continue
        command: Json = document.get("command")
        if isinstance(command, list) and all(isinstance(w, str) for w in command):
            yield shlex.join(command)
