"""Where a run begins: at the start, or at the state that an earlier one has saved.

In its own folder a run goes on as what it was: only its length and what is logged,
tracked and saved may change. In a folder of its own it is a new run from that state,
and whatever leaves the shapes of the state alone may be different.
"""

import contextlib
import functools
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads import config as configs
from rl_grads.config import ConfigError
from rl_grads.tracking import folder, history
from rl_grads.tracking.files import LABELS, end_of_step
from rl_grads.training import devices, places, run
from rl_grads.training.checkpoint import Checkpoints, Saved
from rl_grads.training.engine import parts
from rl_grads.training.population import Member
from rl_grads.training.restart import restart
from rl_grads.training.schema import Config
from rl_grads.training.setup import Setup
from rl_grads.typing import Json

_LOG = logging.getLogger(__name__)
# What may change when a run goes on in its own folder; seeds are compared themselves.
_FREE = ("training.total_steps", "training.schedule_steps", "tracking.", "checkpoint.")
_WANDB = "wandb"  # It links within its own folder, where nothing here writes.
_ELSEWHERE = ("seed", "seeds", "resume", "run.")


class Begin(NamedTuple):
    """Where a run begins.

    Attributes:
        snapshot: The state; None: the start.
        step: Environment step per member of that state.
        history: Rows up to it, of a run that goes on in its own folder.
        offsets: Bytes of `metrics.jsonl` that each point keeps; None: a new file.
    """

    snapshot: run.Snapshot | None
    step: int
    history: tuple[run.Row, ...]
    offsets: tuple[int | None, ...]


def begin(plan: run.Plan, setup: Setup) -> Begin:
    """Where a run begins; nothing is written.

    Raises:
        ConfigError: There is nothing to go on from, or it does not fit.
    """
    new = Begin(None, 0, (), (None,) * len(setup.group.points))
    if setup.source is None:
        return new
    source = setup.source
    check_links(source)
    if setup.in_place:
        for point in setup.group.points:
            _check_same(point.directory, [setup.members[k] for k in point.members])
    if not has_checkpoint(source):
        return _begin_again(setup, source, new)
    saved, offsets = _read(plan, setup)
    rows: tuple[run.Row, ...] = ()
    if setup.in_place:
        groups = places.rows(setup.group.points, offsets)
        rows = tuple(_row(group, plan.config.precision) for group in groups)
    step = saved.iteration * run.steps_per_iteration(plan.config)
    return Begin(_placed(plan, setup, saved), step, rows, offsets)


def has_checkpoint(home: pathlib.Path) -> bool:
    """Whether anything lies where checkpoints do."""
    place = home / folder.CHECKPOINTS
    return place.is_dir() and any(entry.name.isdigit() for entry in place.iterdir())


def _begin_again(setup: Setup, source: pathlib.Path, new: Begin) -> Begin:
    places = (source, *(point.directory for point in setup.group.points))
    if any((place / folder.SUMMARY).exists() for place in places):
        raise ConfigError(
            f"resume={source}: expected a run with a checkpoint; this one has finished "
            "and kept its parameters alone (checkpoint.interval=N keeps the state)"
        )
    if not setup.in_place:
        raise ConfigError(f"resume={source}: expected a run with a checkpoint")
    _LOG.warning("resume=%s: no checkpoint was saved, so it begins again", source)
    return new


def check_links(directory: pathlib.Path) -> None:
    """Refuse a folder that leads elsewhere: what is written there must stay there.

    Raises:
        ConfigError: Names the link; also where there is no such folder.
    """
    if not os.path.isdir(directory):  # False where the name is too long.
        hint = configs.nearest(str(directory), history.known_runs(directory))
        raise ConfigError(f"resume={directory}: expected the folder of a run{hint}")
    for place, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = pathlib.Path(place) / name
            if path.is_symlink():
                raise ConfigError(f"{path}: expected no links in a run's folder")
        folders[:] = [name for name in folders if name != _WANDB]


# --------------------------------------------------------------------------- the config


def keep_schedules(members: Sequence[Member]) -> list[Member]:
    """Members whose schedules keep the length that they began with.

    A resume with another `training.total_steps` would else move every schedule.
    """
    changed: dict[int, Any] = {}
    for member in members:
        config = member.config
        if config.resume is not None and id(config) not in changed:
            changed[id(config)] = _keep_schedules(config, pathlib.Path(config.resume))
    return [Member(changed.get(id(m.config), m.config), m.seed) for m in members]


def _keep_schedules(config: Config, source: pathlib.Path) -> Json:
    before = history.length(source)
    training = config.training
    if before is None or training.schedule_steps or before == training.total_steps:
        return config
    _LOG.warning(
        "resume=%s: schedules keep the length of %s steps that they began with; "
        "training.schedule_steps=N changes it",
        source,
        f"{before:,}",
    )
    return configs.replace(config, {"training.schedule_steps": before})


def _check_same(directory: pathlib.Path, members: Sequence[Member]) -> None:
    """Refuse another config than the folder's own, key by key."""
    from rl_grads.config.document import to_document

    before = history.read(directory)
    if before is None:
        raise ConfigError(f"resume={directory}: expected a run, with {folder.CONFIG}")
    seeds = [m.seed for m in members]
    if seeds != list(before.seeds):
        raise ConfigError(
            f"seeds={_short(seeds)}: expected {_short(before.seeds)}, as in {directory}"
            f"{_NEW_RUN}"
        )
    now = to_document(members[0].config)
    for key in sorted(set(now) & set(before.latest)):
        old, new = before.latest[key], now[key]
        if old != new and not key.startswith((*_FREE, *_ELSEWHERE)):
            if history.asks(old):
                continue
            raise ConfigError(
                f"{key}={new}: expected {old}, as in {directory}{_NEW_RUN}"
            )


def _short(seeds: Sequence[int]) -> str:
    """`[0, 1, 2]`, or with dots in the middle where there are many."""
    shown = [str(s) for s in seeds]
    if len(shown) > 6:
        shown = [*shown[:3], "...", shown[-1]]
    return f"[{', '.join(shown)}]"


_NEW_RUN = (
    "; a resume may change training.total_steps, tracking.* and checkpoint.*, and with "
    "run.id=NEW (another run_dir) it begins a new run from that state"
)


# ---------------------------------------------------------------------------- the state


def _read(plan: run.Plan, setup: Setup) -> tuple[Saved, tuple[int | None, ...]]:
    """The newest intact checkpoint whose rows are there as well, and their bytes.

    A new run from that state has no rows yet, and none are looked for.
    """
    assert setup.source is not None
    like = jax.eval_shape(lambda: run.without_padding(plan, run.fresh(plan)))
    seeds, before = tuple(m.seed for m in plan.members), None
    checkpoints = Checkpoints(setup.source, plan.config.checkpoint.keep)
    with contextlib.closing(checkpoints):
        while True:
            saved = checkpoints.restore(like, seeds, before)
            if not setup.in_place:
                return saved, (None,) * len(setup.group.points)
            step = _step(plan, saved)
            ends = _ends(setup, step)
            if sum(ends) == saved.offset:
                return saved, ends
            misfit = _misfit(setup, saved, step, sum(ends))
            if saved.iteration == checkpoints.iterations()[0]:
                raise ConfigError(misfit)
            _LOG.warning("%s; it is passed over", misfit)
            before = saved.iteration


def _misfit(setup: Setup, saved: Saved, step: int, found: int) -> str:
    return (
        f"resume={setup.home}: expected {folder.ROWS} with {saved.offset} bytes up to "
        f"step {step}, as at its checkpoint, got {found}"
    )


def _placed(plan: run.Plan, setup: Setup, saved: Saved) -> run.Snapshot:
    """The saved state on the devices; a host's environments begin afresh."""
    snapshot = run.restored(saved.iteration, saved.members)
    members = devices.put(plan.layout, saved.members)
    pieces = parts(setup.given, plan.config)
    if not pieces.environment.resamples:
        time = saved.iteration * plan.config.training.num_steps
        again = run.fresh(plan, saved.iteration)
        renew = functools.partial(restart, pieces)
        members = jax.vmap(renew, (0, 0, None))(members, again, time)
    return snapshot._replace(members=members)


# ----------------------------------------------------------------------------- the rows


def _step(plan: run.Plan, saved: Saved) -> int:
    """Environment step of the last row behind which a state was saved."""
    logged = run.restored(saved.iteration, saved.members).logged
    return logged * run.steps_per_iteration(plan.config)


def _ends(setup: Setup, step: int) -> tuple[int, ...]:
    """Bytes of each point's rows up to a step."""
    paths = (point.directory / folder.ROWS for point in setup.group.points)
    return tuple(end_of_step(path, step) for path in paths)


def _row(group: Sequence[Mapping[str, Json]], precision: str) -> run.Row:
    """A row as it was logged, with the digits of its precision."""
    names = [name for name in group[0] if name not in LABELS]
    columns = {name: [row[name] for row in group] for name in names}
    metrics = {
        name: np.array(values, int if type(values[0]) is int else precision)
        for name, values in columns.items()
    }
    return run.Row(group[0]["step"], metrics)
