"""`rl-grads compare PATH... --by KEY`: which value is better, how surely."""

import argparse
from collections.abc import Sequence

from rl_grads.cli import errors, reading

COMMAND = "rl-grads compare"
_ABOUT = """\
Compare the values of a key, two at a time, at equal settings of all other keys: how
likely a run with one beats a run with the other, the difference of the means, and a
p-value, for final values and for the area under the curve. A run that diverged counts
with what it has come to, and one without a value as the worst."""


def main(argv: Sequence[str]) -> int:
    """Print comparisons.

    Args:
        argv: Arguments after `rl-grads compare`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    options = _parser().parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=_ABOUT)
    reading.add_paths(parser)
    parser.add_argument(
        "--by", required=True, metavar="KEY", help="the key whose values are compared"
    )
    parser.add_argument(
        "--baseline",
        metavar="VALUE",
        help="compare every value with this one (default: each two, up to four values)",
    )
    return parser


def _main(options: argparse.Namespace) -> None:
    from rl_grads.results import comparison, sentences

    runs = reading.load(COMMAND, options)
    metric = runs.metric(options.metric)
    made = comparison.make(runs, metric, options.by, options.baseline)
    reading.tell_unfinished(COMMAND, runs)
    reading.tell_repeated(COMMAND, made.repeated)
    print("\n".join(sentences.told(made)))
