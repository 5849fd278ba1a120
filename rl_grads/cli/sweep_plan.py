"""What a sweep is to train: its points, their numbers and their populations."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from rl_grads.cli import sweep_points
from rl_grads.cli.population_job import Planned, Population
from rl_grads.cli.sweep_points import Point, Sources
from rl_grads.config import ConfigError
from rl_grads.config.document import to_document
from rl_grads.tracking import sweep as sweeps
from rl_grads.tracking.sweep import Entry, Sweep
from rl_grads.typing import Value

# What is no part of a point, unless it is swept.
_ELSEWHERE = ("seed", "seeds", "resume", "run.", "sweep", "tracking.", "checkpoint.")
_LENGTH = ("training.total_steps", "training.schedule_steps")


class Plan(NamedTuple):
    """A sweep that is to be trained.

    Attributes:
        sweep: All its points, as its folder records them.
        points: Those of this command, by number.
        populations: What is to be trained, by name.
    """

    sweep: Sweep
    points: Mapping[int, Point]
    populations: Mapping[str, Population]


def make(
    master: DictConfig,
    overrides: Sequence[str],
    command: Sequence[str],
    before: Sweep | None,
) -> Plan:
    """Compose every point, give it its number, and group them.

    Args:
        master: The composed config of the whole sweep, Hydra's section included.
        overrides: The command line's.
        command: The command that goes on with the sweep.
        before: What the folder has already, if the sweep goes on.

    Raises:
        ConfigError: Two points are the same, or share a seed; also what Hydra raises.
    """
    sources = Sources(GlobalHydra.instance().config_loader(), master)
    found = list(
        sweep_points.compose_all(sources, sweep_points.split(sources, overrides))
    )
    swept = sweep_points.swept(sources, overrides)
    identities = [_identity(point, swept) for point in found]
    known = {} if before is None else {e.identity: e for e in before.entries}
    entries: list[Entry] = [] if before is None else list(before.entries)
    points: dict[int, Point] = {}
    for point, identity in zip(found, identities, strict=True):
        entry = known.get(identity.whole)
        if entry is None:
            entry = _entry(len(entries), point, identity.whole, swept)
            entries.append(entry)
            known[identity.whole] = entry
        if entry.number in points:
            given = " ".join(entry.overrides)
            raise ConfigError(f"{given}: expected it once, it is two points of a sweep")
        points[entry.number] = point
    sweep_points.check_seeds(found, [identity.alike for identity in identities])
    entries = _grouped(entries, points)
    sweep = Sweep(tuple(command), tuple(entries))
    return Plan(sweep, points, _populations(sweep, points))


class _Identity(NamedTuple):
    """Digests of a point: of all that makes it, and of that without its seeds."""

    whole: str
    alike: str


def _identity(point: Point, swept: set[str]) -> _Identity:
    if point.config is None:
        return _Identity(*[_digest(list(point.overrides))] * 2)
    document = to_document(point.config)
    own = {
        key: value
        for key, value in document.items()
        if key in swept or not f"{key}.".startswith((*_ELSEWHERE, *_LENGTH))
    }
    own |= {k: v for k, v in point.unresolved.items() if k in own}
    alike = {k: v for k, v in own.items() if k not in ("seed", "seeds")}
    seeds = [document["seed"], document["seeds"]]
    return _Identity(_digest([alike, seeds]), _digest(alike))


def _digest(value: Value) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entry(number: int, point: Point, identity: str, swept: set[str]) -> Entry:
    own = tuple(o for o in point.overrides if o.partition("=")[0] in swept)
    return Entry(number, own, identity, None, point.refused or None)


# ----------------------------------------------------------------------- populations


def _grouped(entries: list[Entry], points: Mapping[int, Point]) -> list[Entry]:
    """The entries, those that train and have no population yet with one."""
    from rl_grads.training.population import population_key

    alike: dict[Any, list[int]] = {}
    for number, point in points.items():
        if entries[number].population is None and point.config is not None:
            told = json.dumps([point.choices, point.unresolved], sort_keys=True)
            key = (population_key(point.config), told)
            alike.setdefault(key, []).append(number)
    grouped, taken = list(entries), [e.population for e in entries if e.population]
    for numbers in alike.values():
        for part in _parts(numbers, points):
            name = sweeps.name(part, taken)
            taken.append(name)
            for number in part:
                grouped[number] = entries[number]._replace(population=name)
    return grouped


def _parts(numbers: Sequence[int], points: Mapping[int, Point]) -> Iterator[list[int]]:
    """Points that train together, as many as a job may have members."""
    part: list[int] = []
    members = 0
    for number in numbers:
        config = points[number].config
        assert config is not None
        most = config.sweep.members_per_job
        if part and most is not None and members + config.seeds > most:
            yield part
            part, members = [], 0
        part.append(number)
        members += config.seeds
    yield part


def _populations(sweep: Sweep, points: Mapping[int, Point]) -> dict[str, Population]:
    """What is to be trained: whole populations, or the one that is asked for."""
    found: dict[str, Population] = {}
    for place, (name, numbers) in enumerate(sweep.populations().items()):
        asked = [number for number in numbers if number in points]
        if not asked:
            continue
        if len(asked) < len(numbers):
            missing = next(number for number in numbers if number not in points)
            raise ConfigError(
                f"point {missing}: expected among the points of this command, as it "
                f"trains in one population with point {asked[0]}"
            )
        chosen = points[asked[0]].config
        assert chosen is not None
        if chosen.sweep.population in (None, place):
            found[name] = _population(name, numbers, points)
    return found


def _population(
    name: str, numbers: Sequence[int], points: Mapping[int, Point]
) -> Population:
    documents = [to_document(points[number].config) for number in numbers]
    first = documents[0]
    planned = tuple(
        Planned(
            number=number,
            overrides=points[number].overrides,
            changes={k: v for k, v in document.items() if first[k] != v},
        )
        for number, document in zip(numbers, documents, strict=True)
    )
    point = points[numbers[0]]
    return Population(name, first, planned, point.choices, point.unresolved)
