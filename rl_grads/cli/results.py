"""What a run or a sweep has left in its folder."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rl_grads.config import ConfigError, nearest
from rl_grads.tracking import folder
from rl_grads.tracking.files import LABELS, read_rows
from rl_grads.training import hydra_folder, recorded
from rl_grads.typing import Document, Json, Value

_ROWS = folder.ROWS
_INFINITIES = ("Infinity", "-Infinity")
_PREFERRED = ("evaluation/return", "evaluation/rmsve")


class Point(NamedTuple):
    """A run, or one point of a sweep.

    Attributes:
        directory: Its folder.
        settings: Dotted key to value; also the choice of each group, by its name.
        summary: What `summary.json` holds; empty where the run has not finished, or
            where it is damaged.
    """

    directory: pathlib.Path
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]

    def metrics(self) -> list[str]:
        """Names of the metrics in the summary that have a value for each member."""
        return [name for name, value in self.summary.items() if _is_final(value)]

    @property
    def diverged(self) -> bool:
        """Whether a member has."""
        return self.summary.get("status") == "diverged"

    def final(self, metric: str) -> np.ndarray:
        """The final values of a metric, `[members]`."""
        members = self.summary[metric]["members"]
        return np.array([np.nan if v is None else float(v) for v in members])


def _is_final(value: Json) -> bool:
    members = value.get("members") if isinstance(value, dict) else None
    numbers = (int, float, type(None))
    return (
        isinstance(members, list)
        and bool(members)
        and all(isinstance(v, numbers) or v in _INFINITIES for v in members)
    )


def points(directory: pathlib.Path) -> list[Point]:
    """The points of a sweep in order of their numbers; of a run, the run itself.

    Raises:
        ConfigError: There is no such folder, or no run in it.
    """
    if not directory.is_dir():
        hint = nearest(str(directory), recorded.known_runs(directory))
        raise ConfigError(f"{directory}: expected the folder of a run or sweep{hint}")
    numbered = [p for p in directory.iterdir() if p.name.isdecimal()]
    places = [directory, *sorted(numbered, key=lambda p: int(p.name))]
    found = [_read(place) for place in places if (place / _ROWS).is_file()]
    if not found:
        raise ConfigError(f"{directory}: expected a run or a sweep, with {_ROWS}")
    return found


def _read(directory: pathlib.Path) -> Point:
    hydra_folder.check_overrides(directory)
    before = recorded.history(directory)
    settings = {} if before is None else _flat(before.first) | dict(before.choices)
    return Point(directory, settings, _summary(directory / folder.SUMMARY))


def _flat(document: Mapping[str, Json]) -> Document:
    """Entries of a config; mappings go by their keys, `env.params.gravity`."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = tuple(value) if isinstance(value, list) else value
    return found


def _summary(path: pathlib.Path) -> Document:
    """The document; what is no such document is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def choose_metric(asked: str | None, known: list[str], directory: pathlib.Path) -> str:
    """The metric that was asked for; by default the evaluation of what was learned.

    Raises:
        ConfigError: It was not logged; the message names the nearest.
    """
    if not known:
        raise ConfigError(f"{directory}: expected a run that has logged a metric")
    if asked is None:
        return next((name for name in _PREFERRED if name in known), known[0])
    if asked not in known:
        expected = f"expected a metric of {directory} ({', '.join(known)})"
        raise ConfigError(f"--metric={asked}: {expected}{nearest(asked, known)}")
    return asked


class Logged(NamedTuple):
    """The rows of a run: `steps [time]`, and each metric `[members, time]`."""

    steps: np.ndarray
    metrics: Mapping[str, np.ndarray]


def logged(point: Point) -> Logged:
    """What a run has logged, nan where it was not measured.

    Raises:
        ConfigError: Nothing yet.
    """
    groups = list(read_rows(point.directory / _ROWS))
    names = dict.fromkeys(name for group in groups for row in group for name in row)
    if not groups:
        raise ConfigError(f"{point.directory}: expected rows in {_ROWS}")
    columns = {
        name: [[row.get(name, np.nan) for row in group] for group in groups]
        for name in names
        if name not in LABELS
    }
    return Logged(
        steps=np.array([group[0]["step"] for group in groups]),
        metrics={name: np.array(v, float).T for name, v in columns.items()},
    )


def setting(point: Point, option: str, key: str) -> Value:
    """The value of a key at a point.

    Args:
        point: Where.
        option: The command line option that names the key, for the message.
        key: Dotted key, or the name of a group for its choice.

    Raises:
        ConfigError: The point has no such key; the message names the nearest.
    """
    if key not in point.settings:
        hint = nearest(key, point.settings)
        expected = f"expected a key of {point.directory}"
        raise ConfigError(f"{option}={key}: {expected}{hint}")
    return point.settings[key]
