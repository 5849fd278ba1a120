"""A run with files: trackers, progress, checkpoints and the summary around training."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_grads.tracking.progress import Progress
from rl_grads.tracking.tracker import Run, Trackers, open_trackers
from rl_grads.training import devices, run
from rl_grads.training.checkpoint import Checkpoints, Saved
from rl_grads.training.engine import Given
from rl_grads.training.population import Member
from rl_grads.training.result import Result


def record(
    given: Given, members: Sequence[Member], directory: pathlib.Path, resume: bool
) -> Result:
    """Train one population and write its files.

    Args:
        given: Agent and environment, where they do not come from the config.
        members: The members, of one structure.
        directory: Where everything is written; made if it does not exist.
        resume: Continue from the newest checkpoint in that directory.

    Raises:
        ConfigError: The config does not fit, or there is nothing to resume.
        OSError: The directory cannot be written.
    """
    the = run.plan(given, members)
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        checkpoints = _checkpoints(the.config, directory, resume, stack)
        snapshot, offset = run.start(the), None
        if resume and checkpoints is not None:
            snapshot, offset = _restored(the, snapshot, checkpoints)
        trackers = stack.enter_context(
            open_trackers(_describe(members, directory), offset=offset)
        )
        progress = stack.enter_context(_progress(the.config, members))
        hooks = run.Hooks(
            row=functools.partial(_row, trackers, progress),
            save=functools.partial(_save, the, trackers, checkpoints),
        )
        result = run.train_from(the, snapshot, hooks)
        trackers.finish(result.summary())
    return result


def _checkpoints(
    config: Any, directory: pathlib.Path, resume: bool, stack: contextlib.ExitStack
) -> Checkpoints | None:
    if config.checkpoint.interval is None and not resume:
        return None
    checkpoints = Checkpoints(directory, config.checkpoint.keep)
    stack.callback(checkpoints.close)
    return checkpoints


def _restored(
    the: run.Plan, fresh: run.Snapshot, checkpoints: Checkpoints
) -> tuple[run.Snapshot, int]:
    like = run.without_padding(the, fresh.members)
    saved = checkpoints.restore(like)
    members = devices.put(the.layout, saved.members)
    return run.Snapshot(saved.iteration, members), saved.offset


def _describe(members: Sequence[Member], directory: pathlib.Path) -> Run:
    config = members[0].config
    return Run(
        directory=directory,
        name="/".join(directory.absolute().parts[-2:]),
        seeds=tuple(m.seed for m in members),
        config=dataclasses.asdict(config),
        settings=config.tracking,
    )


def _progress(config: Any, members: Sequence[Member]) -> Progress:
    seeds = [m.seed for m in members]
    total, enabled = config.training.total_steps, config.tracking.progress
    return Progress(total, "steps", seeds, enabled)


def _row(
    trackers: Trackers, progress: Progress, step: int, metrics: dict[str, np.ndarray]
) -> None:
    trackers.log(step, metrics)
    progress.update(step, metrics)


def _save(
    the: run.Plan,
    trackers: Trackers,
    checkpoints: Checkpoints | None,
    snapshot: run.Snapshot,
) -> None:
    if checkpoints is not None:
        members = run.without_padding(the, snapshot.members)
        checkpoints.save(Saved(snapshot.iteration, trackers.offset(), members))


