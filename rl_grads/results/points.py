"""The points below some folders, and what is left out of them."""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rl_grads.config import ConfigError, nearest
from rl_grads.tracking import folder, history, hydra_folder
from rl_grads.typing import Document, Json, Value

_ROWS = folder.ROWS
_INSIDE = (folder.CHECKPOINTS, "wandb")  # Folders of a run that hold no run.
# What two points may differ in and still be one method.
_ASIDE = ("seed", "seeds", "resume", "run", "tracking", "checkpoint", "sweep")


class Point(NamedTuple):
    """A run, or one point of a sweep: members that differ in their seeds alone.

    Attributes:
        directory: Its folder.
        settings: Dotted key to value; also the choice of each group, by its name.
        seeds: One per member.
        summary: What `summary.json` holds; empty where the run has not finished, or
            where it is damaged.
    """

    directory: pathlib.Path
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    summary: Mapping[str, Any]

    @property
    def has_ended(self) -> bool:
        """Whether it trains no more."""
        return isinstance(self.summary.get("status"), str)

    @property
    def diverged(self) -> bool:
        """Whether a member has."""
        return self.summary.get("status") == "diverged"


class Skipped(NamedTuple):
    """A folder that is left out: of which kind, and why it is."""

    directory: pathlib.Path
    kind: str
    reason: str = ""


EMPTY = "with no rows yet"
FOREIGN = f"with {_ROWS} and no {folder.CONFIG}"
DAMAGED = f"with a damaged {folder.CONFIG}"
DAMAGED_ROWS = f"with a damaged {_ROWS}"


class Found(NamedTuple):
    """Points, and the folders that are none."""

    points: tuple[Point, ...]
    skipped: tuple[Skipped, ...]

    @property
    def count(self) -> int:
        """The number of all folders."""
        return len(self.points) + len(self.skipped)

    def not_runs(self) -> list[Skipped]:
        """Folders that are none of ours; not those that only have no rows yet."""
        return [skip for skip in self.skipped if skip.kind != EMPTY]


def find(paths: Sequence[pathlib.Path]) -> Found:
    """Every point at or below some folders, each once, in order of their names.

    Numbers go by their value, and what checkpoints and mirrors keep is not looked at.

    Args:
        paths: Runs, points, sweeps, or folders above them.

    Raises:
        ConfigError: One of them is no folder.
    """
    for path in paths:
        if not os.path.isdir(path):
            hint = nearest(str(path), history.known_runs(path))
            raise ConfigError(f"{path}: expected the folder of a run or sweep{hint}")
    places = dict.fromkeys(place for path in paths for place in _places(path))
    found = [_read(place) for place in places]
    return Found(
        tuple(point for point in found if isinstance(point, Point)),
        tuple(skip for skip in found if isinstance(skip, Skipped)),
    )


def _places(top: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders at or below one in which a run has begun, or was to begin."""
    signs = (_ROWS, folder.CONFIG, hydra_folder.FOLDER)
    for place, folders, files in os.walk(top):
        if any(sign in files or sign in folders for sign in signs):
            yield pathlib.Path(place)
        inner = (n for n in folders if n not in _INSIDE and not n.startswith("."))
        folders[:] = sorted(inner, key=_in_order)


def _in_order(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (-1, name)


def _read(directory: pathlib.Path) -> Point | Skipped:
    rows = directory / _ROWS
    try:
        hydra_folder.check_overrides(directory)
        before = history.read(directory)
    except ConfigError as error:
        return Skipped(directory, DAMAGED, str(error))
    if not rows.is_file() or not rows.stat().st_size:
        return Skipped(directory, EMPTY)
    if before is None:
        return Skipped(directory, FOREIGN)
    settings = _flat(before.latest) | dict(before.choices)
    summary = document(directory / folder.SUMMARY)
    return Point(directory, settings, before.seeds, summary)


def _flat(entries: Mapping[str, Json]) -> Document:
    """Entries of a config; mappings go by their keys, `env.params.gravity`."""
    found: dict[str, Any] = {}
    for key, value in entries.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = tuple(value) if isinstance(value, list) else value
    return found


def document(path: pathlib.Path) -> Document:
    """A JSON mapping; what is none is empty."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def told(skipped: Sequence[Skipped], of: int) -> Iterator[str]:
    """One line for each kind of folder that is left out.

    Args:
        skipped: The folders.
        of: How many there are with those that are not.

    Example:
        >>> one = Skipped(pathlib.Path("runs/a"), EMPTY)
        >>> list(told([one], of=3))
        ['left out 1 of 3 folders, with no rows yet: runs/a']
    """
    for kind in dict.fromkeys(skip.kind for skip in skipped):
        own = [skip for skip in skipped if skip.kind == kind]
        names = ", ".join(str(skip.directory) for skip in own[:2])
        more = f" and {len(own) - 2} more" if len(own) > 2 else ""
        where = own[0].reason if own[0].reason and len(own) == 1 else f"{names}{more}"
        yield f"left out {len(own)} of {of} folders, {kind}: {where}"


# ------------------------------------------------------------------------------- keys


def differing(points: Iterable[Point]) -> list[str]:
    """Keys in which points differ, but for their seeds, and those below such a key.

    Where and what is logged and saved is not counted either.
    """
    given = list(points)
    keys = dict.fromkeys(key for point in given for key in point.settings)
    values = {key: {str(p.settings.get(key)) for p in given} for key in keys}
    apart = [
        k for k in keys if len(values[k]) > 1 and k.partition(".")[0] not in _ASIDE
    ]
    return [k for k in apart if not any(k.startswith(f"{other}.") for other in apart)]


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
