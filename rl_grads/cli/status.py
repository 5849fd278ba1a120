"""`rl-grads status SWEEP`: how far the points of a sweep are, and why some are not."""

import argparse
import json
import os
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rl_grads.cli import errors
from rl_grads.config import ConfigError, nearest
from rl_grads.tracking import folder, lease
from rl_grads.tracking import sweep as sweeps
from rl_grads.tracking.files import last_step
from rl_grads.tracking.sweep import Entry, Sweep
from rl_grads.typing import Document

COMMAND = "rl-grads status"
_WORDS = ("done", "diverged", "running", "stopped", "failed", "refused", "waiting")


class State(NamedTuple):
    """Of a point: one of `_WORDS`, and what is to be said of it."""

    word: str
    detail: str = ""


def main(argv: Sequence[str]) -> int:
    """Print the state of every population, and of points that are not simply done.

    Args:
        argv: Arguments after `rl-grads status`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Say how far the points of a sweep are."
    )
    parser.add_argument(
        "sweep", type=pathlib.Path, metavar="SWEEP", help="folder of the sweep"
    )
    options = parser.parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options.sweep))


def _main(home: pathlib.Path) -> None:
    if not sweeps.is_sweep(home):
        files = pathlib.Path("sweeps").glob(f"**/{folder.SWEEP}")
        hint = nearest(str(home), [str(path.parent) for path in files])
        raise ConfigError(f"{home}: expected the folder of a sweep{hint}")
    sweep = sweeps.read(home)
    print("\n".join(_lines(home, sweep, states(home, sweep))))


def states(home: pathlib.Path, sweep: Sweep) -> dict[int, State]:
    """The state of every point, by its number.

    Args:
        home: The sweep's folder.
        sweep: What it records.
    """
    holders = {name: lease.holder(home / name) for name in sweep.populations()}
    return {
        entry.number: _state(home, entry, holders.get(entry.population or ""))
        for entry in sweep.entries
    }


def _state(home: pathlib.Path, entry: Entry, holder: str | None) -> State:
    directory = home / str(entry.number)
    summary = _document(directory / folder.SUMMARY)
    if entry.refused is not None:
        return State("refused", entry.refused)
    if holder is not None and not summary:
        return State("running", f"{_reached(directory)}, {holder}")
    if summary.get("diverged"):
        return State("diverged", _diverged(summary))
    if summary:
        return State("failed" if summary.get("status") == "failed" else "done")
    run = _document(directory / folder.RUN)
    if run.get("status") == "failed":
        return State("failed", str(run.get("reason")))
    begun = (directory / folder.ROWS).exists()
    return State("stopped", _reached(directory)) if begun else State("waiting")


def _document(path: pathlib.Path) -> Document:
    """A JSON mapping; nothing where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reached(directory: pathlib.Path) -> str:
    """How far a point has come."""
    step = last_step(directory / folder.ROWS)
    config = _document(directory / folder.CONFIG).get("config")
    whole = config.get("training.total_steps") if isinstance(config, dict) else None
    of = f" of {whole:,}" if type(whole) is int else ""
    return "before its first row" if step is None else f"step {step:,}{of}"


def _diverged(summary: Document) -> str:
    """Which members have diverged, and at which step."""
    found = summary["diverged"]
    told = [f"member {member} at step {at}" for member, at in found.items()][:3]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(told) + more


# ------------------------------------------------------------------------- what is said


def _lines(
    home: pathlib.Path, sweep: Sweep, found: Mapping[int, State]
) -> Iterator[str]:
    words = [state.word for state in found.values()]
    points, groups = len(sweep.entries), len(sweep.populations())
    named = f"{points} points, populations: {groups}"
    yield f"{os.path.relpath(home)}: {named}"
    yield ", ".join(f"{words.count(w)} {w}" for w in _WORDS if w in words)
    for entry in sweep.entries:
        state = found[entry.number]
        if state.word not in ("done", "waiting"):
            own = " ".join(entry.overrides)
            yield f"point {entry.number} ({own}): {state.word}: {state.detail}"
    if {"stopped", "failed", "waiting"} & set(words):
        yield f"to go on: {shlex.join(sweep.command)}"
