"""What a run's folder says, as a checked config: of `config.json` and `run.json`.

A folder may come from a stranger. What is read is plain data of our own keys and
registered names; nothing is imported, resolved or handed to Hydra, whatever it says.
"""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rl_grads.config import ConfigError, nearest, shorten
from rl_grads.config.document import from_document
from rl_grads.tracking import folder, history, hydra_folder
from rl_grads.training.places import Point
from rl_grads.training.population import Member
from rl_grads.training.schema import Config


class Recorded(NamedTuple):
    """A run as its folder has it.

    Attributes:
        directory: The folder.
        config: The checked config of the members, `resume` aside; what it asks of the
            environment has its default.
        seeds: One per member.
        choices: The file that was chosen for each group.
        asks: Dotted key to the text of a value that reads the environment.
        plugins: Modules that were imported for it.
        home: Where the checkpoints of its population lie.
        points: The population's points: their folders and members.
    """

    directory: pathlib.Path
    config: Config
    seeds: tuple[int, ...]
    choices: Mapping[str, str]
    asks: Mapping[str, str]
    plugins: tuple[str, ...]
    home: pathlib.Path
    points: tuple[Point, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of this point."""
        return tuple(Member(self.config, seed) for seed in self.seeds)


def read(directory: pathlib.Path) -> Recorded:
    """What the folder of one run, or of one point, says.

    Args:
        directory: The folder.

    Raises:
        ConfigError: There is no such run, it says something that no run of ours
            would, or it was made with a plugin that is not imported.
    """
    _check_exists(directory)
    hydra_folder.check_overrides(directory)
    how = _how(directory)
    _check_plugins(directory, how.plugins)
    before = history.read(directory)
    assert before is not None
    asked = {k: str(v) for k, v in before.latest.items() if history.asks(v)}
    own = {k: v for k, v in before.latest.items() if k not in asked and k != "resume"}
    home, points = layout(directory, _count(directory, how, before.seeds))
    return Recorded(
        directory=directory,
        config=from_document(own, Config(), str(before.path)),
        seeds=before.seeds,
        choices=before.choices,
        asks=asked,
        plugins=how.plugins,
        home=home,
        points=points,
    )


def population(found: Recorded) -> list[Member]:
    """The members of the whole population that a recorded point belongs to."""
    placed = {
        index: member
        for point in found.points
        for index, member in zip(
            point.members, read(point.directory).members, strict=True
        )
    }
    return [placed[index] for index in range(len(placed))]


def _check_exists(directory: pathlib.Path) -> None:
    # `os.path` says False of a name that is too long, where `pathlib` raises.
    if os.path.isfile(directory / folder.CONFIG):
        return
    if os.path.isfile(directory / hydra_folder.FOLDER / "config.yaml"):
        return
    if not os.path.isdir(directory):
        hint = nearest(str(directory), history.known_runs(directory))
        given = shorten(str(directory))
        raise ConfigError(f"{given}: expected the folder of a run{hint}")
    points = sorted(p.parent.name for p in directory.glob(f"*/{folder.ROWS}"))
    if points:
        expected = f"expected one run, such as {directory / points[-1]}, not a sweep"
        raise ConfigError(f"{directory}: {expected}")
    raise ConfigError(
        f"{directory}: expected the folder of a run, with {folder.CONFIG}"
    )


# --------------------------------------------------------------------------- run.json


class How(NamedTuple):
    """What `run.json` says that decides how a run is read; see `run_document`."""

    plugins: tuple[str, ...]
    home: str
    points: tuple[str, ...]
    members: tuple[int, ...]


def run_document(directory: pathlib.Path) -> How:
    """`run.json`, as far as it decides something.

    Raises:
        ConfigError: It is missing or odd.
    """
    path = directory / folder.RUN
    document = folder.read_document(path)
    plugins, points = document.get("plugins", []), document.get("points", ["."])
    home, members = document.get("population", "."), document.get("members", [])
    for name, value in (("plugins", plugins), ("points", points)):
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{path}: {name}: expected a list of names")
    if not isinstance(members, list) or not all(type(k) is int for k in members):
        raise ConfigError(f"{path}: members: expected a list of integers")
    if not isinstance(home, str):
        raise ConfigError(f"{path}: population: expected the name of a folder")
    return How(tuple(plugins), home, tuple(points), tuple(members))


def _how(directory: pathlib.Path) -> How:
    """`run.json`; versions before it recorded neither plugins nor populations."""
    if (directory / folder.CONFIG).exists():
        return run_document(directory)
    return How((), ".", (".",), ())


def _check_plugins(directory: pathlib.Path, recorded: Sequence[str]) -> None:
    missing = [name for name in recorded if name not in sys.modules]
    if missing:
        flags = " ".join(f"--plugin {name}" for name in missing)
        raise ConfigError(
            f"{directory}: expected {flags}: the run was made with it, and no folder "
            "imports code"
        )


def _count(directory: pathlib.Path, how: How, seeds: Sequence[int]) -> int:
    """Members of the population that a folder belongs to."""
    if how.home == ".":
        return len(seeds)
    home = _beside(directory, how.home)
    places = [_beside(directory, f"../{name}") for name in run_document(home).points]
    return sum(len(_how(place).members) for place in places)


def layout(
    directory: pathlib.Path, count: int
) -> tuple[pathlib.Path, tuple[Point, ...]]:
    """The folder of a point's population, and all its points.

    Args:
        directory: The point's folder.
        count: Members of the population.

    Raises:
        ConfigError: What its documents say does not fit together.
    """
    how = _how(directory)
    if how.home == ".":
        return directory, (Point(directory, tuple(range(count))),)
    home = _beside(directory, how.home)
    places = [_beside(directory, f"../{name}") for name in run_document(home).points]
    points = tuple(Point(place, _how(place).members) for place in places)
    indices = sorted(index for point in points for index in point.members)
    if directory not in places or indices != list(range(count)):
        expected = f"expected points of {count} members, {directory.name} among them"
        raise ConfigError(f"{home / folder.RUN}: {expected}")
    return home, points


def _beside(directory: pathlib.Path, text: str) -> pathlib.Path:
    """The folder above, or one beside: where a point's population may lie."""
    if text == "..":
        return directory.parent
    name = text.removeprefix("../")
    if not name or "/" in name or name in (".", ".."):
        expected = "expected the name of a folder beside it"
        raise ConfigError(f"{directory / folder.RUN}: {text[:60]}: {expected}")
    return directory.parent / name
