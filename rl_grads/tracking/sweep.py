"""What a sweep's folder says of its points: `sweep.json`.

A point keeps its number for ever: its folder, its runs in the mirrors and whatever was
written about it go by it. Points that a later command adds get the next numbers. Points
train in populations, each with a folder of its own for checkpoints; a population of one
point has the point's.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from rl_grads.config import ConfigError
from rl_grads.tracking import folder
from rl_grads.tracking.files import write_json
from rl_grads.typing import Json


class Entry(NamedTuple):
    """A point of a sweep, as it is recorded.

    Attributes:
        number: The name of its folder.
        overrides: The values of the keys that were swept, `KEY=VALUE` each.
        identity: A digest of all that makes it this point and no other.
        population: The name of the folder of the population in which it trains; None
            where it was refused.
        refused: Why, in words; None where it trains.
    """

    number: int
    overrides: tuple[str, ...]
    identity: str
    population: str | None
    refused: str | None


class Sweep(NamedTuple):
    """A sweep as its folder has it: the command that goes on with it, its points."""

    command: tuple[str, ...]
    entries: tuple[Entry, ...]

    def populations(self) -> dict[str, list[int]]:
        """The numbers of the points of every population."""
        found: dict[str, list[int]] = {}
        for entry in self.entries:
            if entry.population is not None:
                found.setdefault(entry.population, []).append(entry.number)
        return found


def write(directory: pathlib.Path, sweep: Sweep) -> None:
    """Write `sweep.json`.

    Raises:
        OSError: It cannot be written.
    """
    document = {
        "format": folder.FORMAT,
        "command": list(sweep.command),
        "points": [entry._asdict() for entry in sweep.entries],
    }
    write_json(directory / folder.SWEEP, document)


def is_sweep(directory: pathlib.Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (directory / folder.SWEEP).is_file()


def read(directory: pathlib.Path) -> Sweep:
    """What `sweep.json` says.

    Raises:
        ConfigError: It is missing, or says what no sweep of ours would.
    """
    path = directory / folder.SWEEP
    document = folder.read_document(path)
    command, points = document.get("command", []), document.get("points")
    if not isinstance(points, list) or not _are_texts(command):
        raise ConfigError(f"{path}: expected a list of points and a command")
    entries = tuple(_entry(path, point) for point in points)
    if [entry.number for entry in entries] != list(range(len(entries))):
        raise ConfigError(f"{path}: points: expected numbers from 0 on, in order")
    return Sweep(tuple(command), entries)


def _entry(path: pathlib.Path, point: Json) -> Entry:
    known = point if isinstance(point, dict) else {}
    fields: list[Any] = [known.get(name) for name in Entry._fields]
    entry = Entry(*fields)
    fits = (
        type(entry.number) is int
        and _are_texts(entry.overrides)
        and isinstance(entry.identity, str)
        and (entry.population is None or _is_name(entry.population, entry.number))
        and (entry.refused is None or isinstance(entry.refused, str))
    )
    if not fits:
        raise ConfigError(f"{path}: points: expected what a sweep of ours records")
    return entry._replace(overrides=tuple(entry.overrides))


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_name(name: Json, number: int) -> bool:
    """Whether a population can have this name: none leads out of the folder."""
    if not isinstance(name, str):
        return False
    return name == str(number) or name.removeprefix("population-").isdecimal()


def name(points: Sequence[int], taken: Sequence[str]) -> str:
    """The folder of a new population: its only point's, or a number of its own.

    Example:
        >>> name([3], []), name([0, 1], ["population-0"])
        ('3', 'population-1')
    """
    if len(points) == 1:
        return str(points[0])
    numbers = [int(n.rpartition("-")[2]) for n in taken if n.startswith("population-")]
    return f"population-{max(numbers, default=-1) + 1}"
