"""A run with files: trackers, progress, checkpoints and the summary around training."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads.config import ConfigError
from rl_grads.tracking.files import LABELS, read_rows
from rl_grads.tracking.progress import Progress
from rl_grads.tracking.tracker import Run, Trackers, open_trackers
from rl_grads.training import devices, run
from rl_grads.training.checkpoint import Checkpoints, Saved
from rl_grads.training.engine import Given, parts
from rl_grads.training.population import Member
from rl_grads.training.restart import restart
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
        begin = _begin(the, given, directory, checkpoints if resume else None)
        trackers = stack.enter_context(
            open_trackers(_describe(members, directory), offset=begin.offset)
        )
        progress = stack.enter_context(_progress(the.config, members))
        hooks = run.Hooks(
            row=functools.partial(_row, trackers, progress),
            save=functools.partial(_save, the, trackers, checkpoints),
        )
        result = run.train_from(the, begin.snapshot, hooks, begin.history)
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


class _Begin(NamedTuple):
    """Where a run begins; `offset` and `history` are of the part before a resume."""

    snapshot: run.Snapshot
    offset: int | None = None
    history: tuple[run.Row, ...] = ()


def _begin(
    the: run.Plan, given: Given, directory: pathlib.Path, saved: Checkpoints | None
) -> _Begin:
    if saved is None:
        return _Begin(run.start(the))
    snapshot, offset = _restored(the, given, saved)
    path = directory / "metrics.jsonl"
    if not path.exists() or path.stat().st_size < offset:
        raise ConfigError(
            f"resume={directory}: expected metrics.jsonl with at least {offset} bytes, "
            "as at its checkpoint"
        )
    rows = read_rows(path, stop=offset)
    history = tuple(_read_row(group, the.config.precision) for group in rows)
    return _Begin(snapshot, offset, history)


def _read_row(group: Sequence[dict[str, Any]], precision: str) -> run.Row:
    """A row as it was logged, with the digits of its precision."""
    names = [name for name in group[0] if name not in LABELS]
    columns = {name: [row[name] for row in group] for name in names}
    metrics = {
        name: np.array(values, int if type(values[0]) is int else precision)
        for name, values in columns.items()
    }
    return run.Row(group[0]["step"], metrics)


def _restored(
    the: run.Plan, given: Given, checkpoints: Checkpoints
) -> tuple[run.Snapshot, int]:
    like = jax.eval_shape(lambda: run.without_padding(the, run.fresh(the)))
    saved = checkpoints.restore(like, _seeds(the.members))
    members = devices.put(the.layout, saved.members)
    made = parts(given, the.config)
    if not made.environment.resamples:
        time = saved.iteration * the.config.training.num_steps
        again = run.fresh(the, saved.iteration)
        renew = functools.partial(restart, made)
        members = jax.vmap(renew, (0, 0, None))(members, again, time)
    return run.Snapshot(saved.iteration, members), saved.offset


def _seeds(members: Sequence[Member]) -> tuple[int, ...]:
    return tuple(m.seed for m in members)


def _describe(members: Sequence[Member], directory: pathlib.Path) -> Run:
    return Run(
        directory=directory,
        name="/".join(directory.absolute().parts[-2:]),
        seeds=_seeds(members),
        configs=tuple(dataclasses.asdict(m.config) for m in members),
        settings=members[0].config.tracking,
    )


def _progress(config: Any, members: Sequence[Member]) -> Progress:
    seeds = [m.seed for m in members]
    total, enabled = config.training.total_steps, config.tracking.progress
    return Progress(total, "steps", seeds, enabled)


def _row(
    trackers: Trackers, progress: Progress, step: int, metrics: Mapping[str, np.ndarray]
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
        seeds, offset = _seeds(the.members), trackers.offset()
        checkpoints.save(Saved(snapshot.iteration, offset, seeds, members))
