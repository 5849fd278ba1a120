"""A run once more, up to any of its iterations, and proof that it is the same run.

A member's randomness is folded out of its seed and the time, and a population of one
shape on the same machine and versions gives the same bits. So the state before any
update can be had again: from the newest checkpoint before it, or from the start, by the
very programs that trained. Every row that the run logged on the way, and the one whose
stretch contains the iteration, must come out bit for bit as it was recorded.
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads.config import ConfigError
from rl_grads.tracking.files import read_rows
from rl_grads.training import devices, run
from rl_grads.training.checkpoint import Checkpoints

_ROWS = "metrics.jsonl"
Recorded = Mapping[int, Sequence[Mapping[str, Any]]]


class Repeated(NamedTuple):
    """A run that stands just before an iteration.

    Attributes:
        snapshot: Its state, all members.
        begun_at: Environment step of the checkpoint it was repeated from; that of the
            first update if there was none.
        rows: Recorded rows that came out the same.
    """

    snapshot: run.Snapshot
    begun_at: int
    rows: int


def recorded(directory: pathlib.Path) -> Recorded:
    """The rows that a run has logged: environment step to a row per member.

    Raises:
        ConfigError: There are none.
    """
    path = directory / _ROWS
    rows = {g[0]["step"]: g for g in read_rows(path)} if path.is_file() else {}
    if not rows:
        raise ConfigError(f"{directory}: expected a run, with rows in {_ROWS}")
    return rows


def repeat(the: run.Plan, directory: pathlib.Path, iteration: int) -> Repeated:
    """Bring a run to the state before one of its iterations.

    Args:
        the: The run's own members, laid out as they were, in an environment whose
            states can be stepped twice.
        directory: Where the run's rows and checkpoints lie.
        iteration: Counted from 1; the run must have logged a row at or after it.

    Raises:
        ConfigError: A row does not come out as it was recorded.
    """
    rows, per = recorded(directory), run.steps_per_iteration(the.config)
    snapshot = _begin(the, directory, iteration)
    begun_at, same = snapshot.iteration * per, 0
    for stop in run.stops(the.config):
        if stop.iteration <= snapshot.iteration:
            continue
        within = stop.iteration >= iteration
        start = _copied(snapshot) if within else snapshot
        moved, metrics = forward(the, start, stop.iteration)
        same += _check_row(the, directory, rows, stop.iteration * per, metrics)
        if within:
            break
        snapshot = moved
    if snapshot.iteration < iteration - 1:
        snapshot, _ = forward(the, snapshot, iteration - 1)
    return Repeated(snapshot, begun_at, same)


def forward(
    the: run.Plan, snapshot: run.Snapshot, iteration: int
) -> tuple[run.Snapshot, dict[str, np.ndarray]]:
    """Train up to an iteration; the mean metrics `[members]` of the stretch.

    The old snapshot's arrays are given up.
    """
    begin = snapshot.iteration * the.config.training.num_steps
    count = iteration - snapshot.iteration
    members, metrics = the.engine.chunk(the.configs, snapshot.members, begin, count)
    means = {n: np.asarray(v)[: len(the.members)] for n, v in metrics.items()}
    return run.Snapshot(iteration, members), means


def peek(
    the: run.Plan, snapshot: run.Snapshot, iteration: int
) -> dict[str, np.ndarray]:
    """The metrics of `forward`, without moving the snapshot."""
    return forward(the, _copied(snapshot), iteration)[1]


def _copied(snapshot: run.Snapshot) -> run.Snapshot:
    return snapshot._replace(members=jax.tree.map(lambda x: x.copy(), snapshot.members))


def _begin(the: run.Plan, directory: pathlib.Path, iteration: int) -> run.Snapshot:
    """The newest checkpoint before an iteration, or the start of training."""
    if not (directory / "checkpoints").is_dir():
        return run.start(the)
    checkpoints = Checkpoints(directory, the.config.checkpoint.keep)
    with contextlib.closing(checkpoints):
        before = [i for i in checkpoints.iterations() if i < iteration]
        if not before:
            return run.start(the)
        like = jax.eval_shape(lambda: run.without_padding(the, run.fresh(the)))
        seeds = tuple(m.seed for m in the.members)
        saved = checkpoints.restore(like, seeds, before[-1])
    members = devices.put(the.layout, saved.members)
    return run.Snapshot(saved.iteration, members)


def _check_row(
    the: run.Plan,
    directory: pathlib.Path,
    rows: Recorded,
    step: int,
    metrics: Mapping[str, np.ndarray],
) -> int:
    """1 if a recorded row came out the same, 0 if there is none."""
    if step not in rows:
        return 0
    for name, now in metrics.items():
        before = np.array([row.get(name, np.nan) for row in rows[step]])
        if not np.array_equal(before.astype(now.dtype), now, equal_nan=True):
            raise ConfigError(
                f"{directory}: expected a run that comes out the same here; its row at "
                f"step {step} has {name}={before.tolist()}, this time it is "
                f"{now.tolist()} (was it another machine, other versions, another "
                "number of devices, or resumed with other settings?)"
            )
    return 1
