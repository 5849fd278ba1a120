"""What a point's folder has recorded of its config: the one reader of `config.json`.

A folder may come from a stranger. What is read is plain data; nothing is imported,
resolved or handed to Hydra, whatever it says. `training.recorded` makes a checked
config of it.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rl_grads.config import ConfigError
from rl_grads.tracking import folder, hydra_folder
from rl_grads.training.schema import RENAMED
from rl_grads.typing import Json

_UNRESOLVED = "${"


class History(NamedTuple):
    """The config of a point as it was recorded, and what resumes have changed of it.

    Attributes:
        path: The file.
        first: Flat document of the config with which it began.
        latest: The same with all changes.
        changes: `{"time", "step", "values"}` each.
        seeds: One per member.
        choices: The file that was chosen for each group.
    """

    path: pathlib.Path
    first: Mapping[str, Any]
    latest: Mapping[str, Any]
    changes: Sequence[Mapping[str, Any]]
    seeds: tuple[int, ...]
    choices: Mapping[str, str]


def read(directory: pathlib.Path) -> History | None:
    """What a point's folder has recorded; None where it holds no config.

    Values are plain and not checked against the schema (see `training.recorded`).

    Raises:
        ConfigError: A document is odd, or of an unknown format.
    """
    path = directory / folder.CONFIG
    if not path.exists():
        return _earlier(directory)
    document = folder.read_document(path)
    entries, changes = document.get("config"), document.get("changes", [])
    if not isinstance(entries, dict) or not isinstance(changes, list):
        raise ConfigError(f"{path}: expected a mapping config and a list changes")
    latest = entries = _renamed(entries)
    for change in changes:
        values = change.get("values") if isinstance(change, dict) else None
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: changes: expected a mapping with values")
        latest = latest | _renamed(values)
    choices = _texts(document.get("choices", {}), f"{path}: choices")
    seeds = _seeds(document.get("seeds"), path)
    return History(path, entries, latest, changes, seeds, choices)


def _renamed(entries: Mapping[str, Json]) -> dict[str, Json]:
    """The entries with keys of earlier versions by the names that they have now."""
    return {RENAMED.get(key, key): value for key, value in entries.items()}


def _earlier(directory: pathlib.Path) -> History | None:
    """A folder of a version that left its config to Hydra."""
    path = directory / hydra_folder.FOLDER / "config.yaml"
    if not path.is_file():
        return None
    saved, choices = hydra_folder.read(directory)
    entries = _renamed(saved)
    first, count = entries.get("seed", 0), entries.get("seeds", 1)
    seeds = _range(first, count, path)
    return History(path, entries, entries, (), seeds, choices)


def _range(first: Json, count: Json, path: pathlib.Path) -> tuple[int, ...]:
    """Seeds from a first one on, if these are sizes that a run can have."""
    if type(first) is not int or type(count) is not int or not 0 < count <= 2**20:
        raise ConfigError(f"{path}: seeds={count}: expected an integer in [1, 2^20]")
    return _seeds(list(range(first, first + count)), path)


def length(directory: pathlib.Path) -> int | None:
    """The steps that schedules of a recorded run take; None where it does not say."""
    places = (directory, directory / "0")  # Itself, or the first of its points.
    found = (read(place) for place in places if place.is_dir())
    latest = next((before.latest for before in found if before), {})
    keys = ("training.schedule_steps", "training.total_steps")
    known = [latest[key] for key in keys if type(latest.get(key)) is int]
    return known[0] if known else None


def asks(value: Json) -> bool:
    """Whether a value holds an interpolation, which nothing here resolves."""
    if isinstance(value, Mapping):
        return any(map(asks, value.values()))
    if isinstance(value, list | tuple):
        return any(map(asks, value))
    return isinstance(value, str) and _UNRESOLVED in value


def _seeds(value: Json, path: pathlib.Path) -> tuple[int, ...]:
    fits = isinstance(value, list) and all(type(seed) is int for seed in value)
    if not fits or not value or not all(0 <= seed < 2**32 for seed in value):
        expected = "expected a list of integers in [0, 2^32)"
        raise ConfigError(f"{path}: seeds={str(value)[:60]}: {expected}")
    return tuple(value)


def _texts(value: Json, where: str) -> dict[str, str]:
    fits = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if not fits:
        raise ConfigError(f"{where}: expected texts by name")
    return value


def known_runs(missing: pathlib.Path) -> list[str]:
    """Folders that look like runs and sweeps: in their usual places, and beside it."""
    usual = [p for top in ("runs", "sweeps") for p in pathlib.Path(top).glob("*/*")]
    above = missing.parent
    beside = above.iterdir() if os.path.isdir(above) else ()
    return [str(p) for p in (*usual, *beside) if p.is_dir()]
