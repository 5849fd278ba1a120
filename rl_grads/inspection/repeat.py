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
from rl_grads.tracking import folder
from rl_grads.training import continuing, devices, places, run
from rl_grads.training.checkpoint import Checkpoints
from rl_grads.training.places import Point

Recorded = Mapping[int, Sequence[Mapping[str, Any]]]


class Where(NamedTuple):
    """A recorded population: its folder, and its points with their members."""

    home: pathlib.Path
    points: tuple[Point, ...]


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


def recorded(points: Sequence[Point]) -> Recorded:
    """The rows that a population has logged: environment step to a row per member.

    Raises:
        ConfigError: There are none.
    """
    paths = [point.directory / folder.ROWS for point in points]
    missing = [path for path in paths if not path.is_file()]
    rows = {} if missing else {g[0]["step"]: g for g in places.rows(points)}
    if not rows:
        home = points[0].directory
        raise ConfigError(f"{home}: expected a run, with rows in {folder.ROWS}")
    return rows


def repeat(plan: run.Plan, where: Where, iteration: int) -> Repeated:
    """Bring a run to the state before one of its iterations.

    Args:
        plan: The run's own members, laid out as they were, in an environment whose
            states can be stepped twice.
        where: Where the run's rows and checkpoints lie.
        iteration: Counted from 1; the run must have logged a row at or after it.

    Raises:
        ConfigError: A row does not come out as it was recorded.
    """
    rows, per = recorded(where.points), run.steps_per_iteration(plan.config)
    snapshot = _begin(plan, where.home, iteration)
    begun_at, same = snapshot.iteration * per, 0
    for stop in run.stops(plan.config):
        if stop.iteration <= snapshot.logged:
            continue
        within = stop.iteration >= iteration
        start = _copied(snapshot) if within else snapshot
        moved, metrics = run.forward(plan, start, stop.iteration)
        same += _check_row(where.home, rows, stop.iteration * per, metrics)
        if within:
            break
        snapshot = moved._replace(logged=stop.iteration)
    if snapshot.iteration < iteration - 1:
        snapshot, _ = run.forward(plan, snapshot, iteration - 1)
    return Repeated(snapshot, begun_at, same)


def peek(
    plan: run.Plan, snapshot: run.Snapshot, iteration: int
) -> dict[str, np.ndarray]:
    """The metrics of the iterations from a snapshot on, without moving it."""
    alone = _copied(snapshot)._replace(logged=snapshot.iteration)
    return run.forward(plan, alone, iteration)[1]


def _copied(snapshot: run.Snapshot) -> run.Snapshot:
    return snapshot._replace(members=jax.tree.map(lambda x: x.copy(), snapshot.members))


def _begin(plan: run.Plan, home: pathlib.Path, iteration: int) -> run.Snapshot:
    """The newest checkpoint before an iteration, or the start of training."""
    if not continuing.has_checkpoint(home):
        return run.start(plan)
    checkpoints = Checkpoints(home, plan.config.checkpoint.keep)
    with contextlib.closing(checkpoints):
        if not any(i < iteration for i in checkpoints.iterations()):
            return run.start(plan)
        like = jax.eval_shape(lambda: run.without_padding(plan, run.fresh(plan)))
        seeds = tuple(m.seed for m in plan.members)
        saved = checkpoints.restore(like, seeds, before=iteration)
    snapshot = run.restored(saved.iteration, saved.members)
    return snapshot._replace(members=devices.put(plan.layout, saved.members))


def _check_row(
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
