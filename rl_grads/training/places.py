"""Where populations and their points write: one folder per config.

A population is what trains together; a point is what may be averaged, members that
differ in their seeds alone. A run of one point has one folder for everything. Where
configs differ, numbered folders below it are the points, as in a sweep.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rl_grads.config.document import to_document
from rl_grads.tracking import folder
from rl_grads.tracking.files import Row, read_rows
from rl_grads.training.population import Member, program_part, split
from rl_grads.training.schema import Config
from rl_grads.typing import Json


class Point(NamedTuple):
    """Members that share a config: their folder, and their places in the population."""

    directory: pathlib.Path
    members: tuple[int, ...]


class Group(NamedTuple):
    """A population: its members among all, its folder and its points.

    Attributes:
        members: Indices among all members.
        home: Where its checkpoints lie; None where nothing is written.
        points: What its members write.
    """

    members: list[int]
    home: pathlib.Path | None
    points: tuple[Point, ...]


def points_of(members: Sequence[Member]) -> list[list[int]]:
    """Indices of the members of each config, in order of first appearance."""
    keys = {id(m.config): _key(m.config) for m in members}
    found: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        found.setdefault(keys[id(member.config)], []).append(index)
    return list(found.values())


def _key(config: Config) -> str:
    """What two configs share whose members may be averaged."""
    return json.dumps(to_document(program_part(config)), sort_keys=True)


def differing(members: Sequence[Member]) -> dict[str, list[Json]]:
    """Every key in which the members' configs differ, with the value of each member.

    Lists and mappings are given as text, and None where a config has no such key.

    Example:
        >>> from rl_grads.training.population import population
        >>> from rl_grads.training.schema import Config
        >>> sweep = {"optimizer.learning_rate": [0.1, 0.2]}
        >>> differing(population(Config(), seeds=[7], sweep=sweep))
        {'optimizer.learning_rate': [0.1, 0.2]}
    """
    documents = {id(m.config): to_document(program_part(m.config)) for m in members}
    keys = dict.fromkeys(key for document in documents.values() for key in document)
    found = {k: [_plain(documents[id(m.config)].get(k)) for m in members] for k in keys}
    return {key: v for key, v in found.items() if any(x != v[0] for x in v)}


def telling(members: Sequence[Member]) -> tuple[str, ...]:
    """The keys by which the configs of members are told apart.

    A key below a section that differs itself is left out where it follows from what
    the section is: another replay has another exponent.

    Example:
        >>> from rl_grads.training.population import population
        >>> from rl_grads.training.schema import Config
        >>> sweep = {"agent.discount": [0.9, 1.0]}
        >>> telling(population(Config(), seeds=[7], sweep=sweep))
        ('agent.discount',)
    """
    found = differing(members)
    return tuple(
        key
        for key, values in found.items()
        if not any(_follows(values, found[above]) for above in _above(key, found))
    )


def _above(key: str, keys: Iterable[str]) -> list[str]:
    return [other for other in keys if key.startswith(f"{other}.")]


def _follows(values: Sequence[Json], others: Sequence[Json]) -> bool:
    """Whether each of some values is known from the other beside it."""
    return len(set(zip(others, values, strict=True))) == len(set(others))


def _plain(value: Json) -> Json:
    return json.dumps(value) if isinstance(value, list | dict) else value


def rows(
    points: Sequence[Point], stops: Sequence[int | None] | None = None
) -> Iterator[list[Row]]:
    """The logged rows of a whole population, put together from those of its points.

    Args:
        points: All of them.
        stops: Bytes of each file to read, up to one step; None: all that is there.

    Raises:
        ConfigError: A file cannot be read, or a line of it is no row.
    """
    paths = [point.directory / folder.ROWS for point in points]
    files = map(read_rows, paths, stops or [None] * len(paths))
    for groups in zip(*files, strict=stops is not None):
        placed = {
            member: row
            for point, group in zip(points, groups, strict=True)
            for member, row in zip(point.members, group, strict=True)
        }
        yield [placed[member] for member in sorted(placed)]


def lay_out(members: Sequence[Member], home: pathlib.Path | None) -> list[Group]:
    """The populations of some members, and the folders of each.

    Args:
        members: All members.
        home: The folder of them all; None: nothing is written.
    """
    groups = split(members)
    if home is None:
        return [Group(group, None, ()) for group in groups]
    points = points_of(members)
    if len(points) == 1:
        own = tuple(range(len(members)))
        return [Group(group, home, (Point(home, own),)) for group in groups]
    folder = {i: home / str(n) for n, point in enumerate(points) for i in point}
    together = len(groups) == 1
    homes = [home if together else home / f"population-{n}" for n in range(len(groups))]
    return [
        Group(group, place, _points([folder[i] for i in group]))
        for group, place in zip(groups, homes, strict=True)
    ]


def _points(folders: Sequence[pathlib.Path]) -> tuple[Point, ...]:
    """The points of a population, from the folder of each of its members."""
    return tuple(
        Point(place, tuple(k for k, other in enumerate(folders) if other == place))
        for place in dict.fromkeys(folders)
    )
