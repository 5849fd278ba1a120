"""What trackers are told of a run, and what they call it and its members."""

import json
import pathlib
import re
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from rl_grads.tracking.files import write_json
from rl_grads.tracking.schema import Tracking
from rl_grads.typing import Document, Json


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


def final_values(summary: Mapping[str, Json], member: int | None) -> Document:
    """The summary as one flat record: of a member, or (None) of the population.

    Args:
        summary: As `Trackers.finish` takes it.
        member: Which member.

    Returns:
        `final/<metric>` (a member's value), or `final/<metric>/mean` and `.../iqm`;
        and every plain number and text of the summary.
    """
    flat: dict[str, Any] = {}
    for name, value in summary.items():
        if isinstance(value, str | int | float):
            flat[name] = value
        elif isinstance(value, Mapping) and "members" in value:
            flat |= _final_metric(f"final/{name}", value, member)
    return flat


def _final_metric(name: str, value: Mapping[str, Json], member: int | None) -> Document:
    if member is not None:
        return {name: value["members"][member]}
    return {f"{name}/{s}": value[s]["value"] for s in ("mean", "iqm") if s in value}


def member_names(run: Run) -> list[str]:
    """What trackers call each member: by seed, and by number where seeds repeat.

    Example:
        >>> run = Run(pathlib.Path(), "walk/today", (5, 6), ({}, {}), Tracking())
        >>> member_names(run)
        ['walk/today-seed5', 'walk/today-seed6']
        >>> member_names(run._replace(seeds=(5, 5)))
        ['walk/today-member0-seed5', 'walk/today-member1-seed5']
    """
    repeated = len(set(run.seeds)) < len(run.seeds)
    return [
        f"{run.name}-member{k}-seed{seed}" if repeated else f"{run.name}-seed{seed}"
        for k, seed in enumerate(run.seeds)
    ]


def run_ids(run: Run, tracker: str, count: int, resume: bool) -> list[str]:
    """Ids under which a tracker knows this run: new ones, or those of the resumed run.

    They are kept in `<tracker>.json` in the run's directory.
    """
    path = run.directory / f"{tracker}.json"
    ids = _known_ids(path) if resume else []
    if len(ids) == count:
        return ids
    ids = [secrets.token_hex(8) for _ in range(count)]
    write_json(path, {"project": run.settings.wandb.project, "ids": ids})
    return ids


def _known_ids(path: pathlib.Path) -> list[str]:
    """The ids in a file, if they are such as are made here; else none."""
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))["ids"]
        fits = all(re.fullmatch("[0-9a-f]{16}", id) for id in ids)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []
    return ids if fits and isinstance(ids, list) else []
