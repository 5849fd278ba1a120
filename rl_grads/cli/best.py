"""`rl-grads best SWEEP`: the command that runs its best point on fresh seeds."""

import argparse
from collections.abc import Sequence

from rl_grads.cli import errors, reading

COMMAND = "rl-grads best"
_ABOUT = """\
Print the command that runs the best point of a sweep again, on seeds that the sweep has
not used: the best of many has been lucky as well, and fresh seeds say how good it is.
Standard output has the command alone."""


def main(argv: Sequence[str]) -> int:
    """Print a command.

    Args:
        argv: Arguments after `rl-grads best`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=_ABOUT)
    reading.add_paths(parser)
    options = parser.parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options))


def _main(options: argparse.Namespace) -> None:
    from rl_grads.results import best, words

    runs = reading.load(COMMAND, options)
    metric = runs.metric(options.metric)
    found = best.best(runs, metric)
    line = best.command(found.point, runs)
    reading.tell_unfinished(COMMAND, runs)
    reading.tell(COMMAND, f"best of {found.of}: {found.label or found.point.directory}")
    reading.tell(COMMAND, f"{metric} {words.shown(found.found)}")
    print(line)
