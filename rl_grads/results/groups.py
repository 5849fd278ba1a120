"""Points by their settings: what is averaged, and what it is called."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.config import ConfigError, nearest
from rl_grads.results.points import Point
from rl_grads.results.runs import Runs
from rl_grads.tracking.labels import compact, short_names
from rl_grads.typing import Json

ENVIRONMENT = "env.id"
Place = tuple[str, ...]  # The values of some keys, in words.
_NONE = "-"  # Of a point that has no such key.


class Pool(NamedTuple):
    """The members of points that differ in their seeds alone.

    Attributes:
        values: One for each member, `[runs]`.
        repeated: How many members were left out, as a later point has their seed.
    """

    values: np.ndarray
    repeated: int


def check_keys(runs: Runs, option: str, keys: Sequence[str]) -> None:
    """Refuse keys that no point has.

    Raises:
        ConfigError: Names the option, the key and the nearest.
    """
    known = {key for point in runs.points for key in point.settings}
    for key in keys:
        if key not in known:
            expected = f"expected a key of {runs.name}"
            hint = nearest(key, [*runs.keys, *known])
            raise ConfigError(f"{option}={key}: {expected}{hint}")


def by_place(runs: Runs, keys: Sequence[str]) -> dict[Place, list[int]]:
    """The numbers of the points at each setting of some keys."""
    columns = [_words([p.settings.get(k, _NONE) for p in runs.points]) for k in keys]
    found: dict[Place, list[int]] = {}
    for number in range(len(runs.points)):
        at = tuple(column[number] for column in columns)
        found.setdefault(at, []).append(number)
    return found


def _words(values: Sequence[Json]) -> list[str]:
    """Values in short; at length those that would be called as another one is.

    Example:
        >>> _words([0.1, 0.12345, 0.12346])
        ['0.1', '0.12345', '0.12346']
    """
    exact = [_NONE if v is _NONE else json.dumps(v) for v in values]
    brief = [_NONE if v is _NONE else _brief(v) for v in values]
    called: dict[str, set[str]] = {}
    for text, word in zip(exact, brief, strict=True):
        called.setdefault(word, set()).add(text)
    pairs = zip(exact, brief, strict=True)
    return [word if len(called[word]) == 1 else text for text, word in pairs]


def _brief(value: Json) -> str:
    return compact(list(value) if isinstance(value, tuple) else value)


def pool(runs: Runs, numbers: Sequence[int], values: Sequence[np.ndarray]) -> Pool:
    """The members of some points, each seed once: a run that was repeated is one run.

    Args:
        runs: All points.
        numbers: Those that are pooled.
        values: The values of every point, `[members]` each.
    """
    found: dict[tuple[int, int], float] = {}
    for number in numbers:
        seen: dict[int, int] = {}
        seeds = _seeds(runs.points[number], len(values[number]))
        for seed, value in zip(seeds, values[number], strict=True):
            seen[seed] = seen.get(seed, 0) + 1
            found[seed, seen[seed]] = float(value)
    total = sum(len(values[number]) for number in numbers)
    return Pool(np.array(list(found.values())), total - len(found))


def _seeds(point: Point, members: int) -> Sequence[int]:
    """The seed of each member; where its documents disagree their numbers."""
    return point.seeds if len(point.seeds) == members else range(members)


def short(keys: Sequence[str]) -> list[str]:
    """What keys are called in labels.

    Example:
        >>> short(["optimizer.learning_rate", "replay"])
        ['lr', 'replay']
    """
    return list(short_names(keys).values())


def label(keys: Sequence[str], values: Place) -> str:
    """Keys with their values: `lr=0.1, td_gradient=full`.

    Example:
        >>> label(["optimizer.learning_rate", "replay"], ("0.1", "per"))
        'lr=0.1, replay=per'
    """
    pairs = zip(short(keys), values, strict=True)
    return ", ".join(f"{name}={value}" for name, value in pairs)
