"""What trackers are told of a run, and under which ids they know it."""

import json
import pathlib
import re
import secrets
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rl_grads.tracking.files import write_json
from rl_grads.tracking.schema import Tracking

Columns = Sequence[Sequence[float]]  # Of metrics, `[metrics, members]`.


def means(columns: Columns) -> dict[str, Sequence[float]]:
    """The mean of each column, under no name of its own."""
    return {"": [statistics.fmean(column) for column in columns]}


class Run(NamedTuple):
    """What a tracker is told once.

    Attributes:
        directory: The point's directory; it exists.
        name: Such as `"cartpole/2026-11-22_05-30-00"`.
        seeds: One per member.
        configs: The resolved config of each member as a plain nested dict.
        settings: What to mirror and where.
        group: The name of its sweep or run, which all points share; None: its own.
        job_type: What kind of work it is.
        tags: Under which it is found, beside those of the settings.
        provenance: How it was made: command, commits, versions, device, host.
        metrics: Names of all that its rows may have; told where registered trackers
            are asked for.
        differs: Dotted key to text, such as `"lr=3e-4"`, for all in which the point
            differs from the others of its sweep.
        company: Members that the process trains, these among them; 0: these alone.
        over_members: What is shown of a whole point: statistics of each metric by
            name, the one without a name in the metric's own place.
    """

    directory: pathlib.Path
    name: str
    seeds: tuple[int, ...]
    configs: tuple[dict[str, Any], ...]
    settings: Tracking
    group: str | None = None
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = {}
    metrics: tuple[str, ...] = ()
    differs: Mapping[str, str] = {}
    company: int = 0
    over_members: Callable[[Columns], Mapping[str, Sequence[float]]] = means


class Ids(NamedTuple):
    """Ids under which a tracker knows a run: now, and before it was resumed."""

    now: list[str]
    before: list[str]


def run_ids(run: Run, tracker: str, count: int, resume: bool) -> Ids:
    """Ids for what a tracker shows: those of the resumed run, or as many new ones.

    They are kept in `<tracker>.json` in the run's directory.
    """
    path = run.directory / f"{tracker}.json"
    before = known_ids(path) if resume else []
    if len(before) == count:
        return Ids(before, before)
    now = [secrets.token_hex(8) for _ in range(count)]
    write_json(path, {"project": run.settings.wandb.project, "ids": now})
    return Ids(now, before)


def known_ids(path: pathlib.Path) -> list[str]:
    """The ids in a file, if they are such as are made here; else none."""
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))["ids"]
        fits = all(re.fullmatch("[0-9a-f]{16}", id) for id in ids)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []
    return ids if fits and isinstance(ids, list) else []
