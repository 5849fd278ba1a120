"""What a training command says while it runs and at its end."""

import contextlib
import io
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rl_grads.cli.job import COMMAND, Job

if TYPE_CHECKING:
    from rich.console import Group

    from rl_grads.training.result import Result


def tell(text: str) -> None:
    """Say it on standard error, and in the log."""
    from rl_grads.tracking import log

    print(text, file=sys.stderr)
    log.write(text)


def as_text(table: "Group") -> str:
    """A table as the terminal shows it, in plain letters."""
    import rich.console

    plain = rich.console.Console(file=io.StringIO(), width=80, color_system=None)
    with plain.capture() as seen:
        plain.print(table)
    return seen.get()


@contextlib.contextmanager
def failing(job: Job, home: pathlib.Path) -> Iterator[None]:
    """Say what an environment has raised, and what is kept of the run."""
    from rl_grads.cli import errors
    from rl_grads.envs.faults import EnvironmentFailed

    try:
        yield
    except EnvironmentFailed as failed:
        errors.tell(f"{COMMAND}: {failed}", full=job.tracebacks)
        if failed.result is not None and len(failed.result.steps):
            rows, last = len(failed.result.steps), failed.result.steps[-1]
            contents = f"{rows} rows, and the parameters at step {last:,}"
            tell(f"{COMMAND}: kept in {home}: {contents}")
        raise errors.PointFailed(1) from failed


def timing(result: "Result") -> str:
    """How long it took, and how much of that was compilation."""
    took, steps = result.timing, int(result.steps[-1]) if len(result.steps) else 0
    running = max(took.wall_s - took.compile_s, 1e-9)
    return (
        f"{len(result.members)} members x {steps:,} steps in "
        f"{took.wall_s:.1f} s, {took.compile_s:.1f} s of it compilation; "
        f"then {took.steps / running:,.0f} steps/s"
    )


def written(home: pathlib.Path) -> list[str]:
    """One line: the folder, and what of the files that matter lies in it."""
    names = ("metrics.jsonl", "summary.json", "parameters.npz", "checkpoints", "wandb")
    shown = os.path.relpath(home)
    shown = str(home) if shown.startswith("..") else shown
    return [f"{shown}: {', '.join(name for name in names if (home / name).exists())}"]
