"""The command `rl-grads`: a word for what to do, and its arguments."""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "train a population; every config key is an argument",
    "sweep": "plan a sweep for other engines: a command for each population",
    "status": "say how far the points of a sweep are",
    "list": "list runs and sweeps: when, how long, what they came to",
    "delete": "move runs into the trash",
    "table": "print a metric over the keys in which runs differ",
    "compare": "say which value of a key is better, and how surely",
    "best": "print the command that runs the best point of a sweep on fresh seeds",
    "report": "write runs and sweeps as one HTML page: tables, curves, gradients",
    "dashboard": "open the local web page with the curves of all runs",
    "sync": "upload every offline W&B run below a folder",
    "wandb": "save a view of a W&B project, its sections in the order of reading",
    "plot": "draw a figure of a run or a sweep, as PNG and as PDF",
    "anatomy": "name the largest gradients in the batch of one update of a run",
    "audit": "print which parameters a loss moves, and by which of its terms",
    "keys": "print the page of all config keys and metrics",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command == "--version":
        print(f"rl-grads {importlib.metadata.version('rl_grads')}")
        return 0
    if command == "--completion":
        from rl_grads.cli import completion

        return completion.main(arguments[1:], tuple(COMMANDS))
    if command not in COMMANDS:
        from rl_grads.config import nearest

        hint = nearest(command, COMMANDS)
        expected = ", ".join(COMMANDS)
        print(f"rl-grads {command}: expected one of {expected}{hint}", file=sys.stderr)
        return 2
    return importlib.import_module(f"rl_grads.cli.{command}").main(arguments[1:])


def _help() -> str:
    lines = ["usage: rl-grads COMMAND [ARGUMENT ...]", "", "commands:"]
    lines += [f"  {name:<12}{meaning}" for name, meaning in COMMANDS.items()]
    more = [
        "rl-grads COMMAND --help says more.",
        "rl-grads --version             which one this is",
        "rl-grads --completion SHELL    tab completion for bash, zsh or fish",
    ]
    return "\n".join([*lines, "", *more])


if __name__ == "__main__":
    sys.exit(main())
