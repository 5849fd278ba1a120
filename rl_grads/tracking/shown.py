"""What a mirror shows of a run: a run of its own per member, or one of the point."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rl_grads.tracking.files import LABELS, Row
from rl_grads.tracking.labels import joined
from rl_grads.tracking.run import Run
from rl_grads.tracking.schema import MOST_MEMBER_RUNS
from rl_grads.typing import Document, Json

_SEEDS = ("seed", "seeds")


class Shown(NamedTuple):
    """A run as the mirrors show it: of one member, or (None) of a whole point."""

    name: str
    member: int | None


def shown(run: Run) -> list[Shown]:
    """The runs that a mirror shows of this one; see `tracking.runs`.

    Example:
        >>> import pathlib
        >>> from rl_grads.tracking.schema import Tracking
        >>> run = Run(pathlib.Path(), "walk/today", (5, 6), ({}, {}), Tracking())
        >>> [row.name for row in shown(run)]
        ['walk/today · seed 5', 'walk/today · seed 6']
        >>> [row.name for row in shown(run._replace(company=60))]
        ['walk/today']
        >>> run = run._replace(differs={"optimizer.learning_rate": "lr=3e-4"})
        >>> [row.name for row in shown(run)]
        ['lr=3e-4 · seed 5', 'lr=3e-4 · seed 6']
    """
    kind, count = run.settings.runs, max(run.company, len(run.seeds))
    if kind == "point" or (kind == "auto" and count > MOST_MEMBER_RUNS):
        return [Shown(joined(*run.differs.values() or (run.name,)), None)]
    own = [text for key, text in run.differs.items() if key not in _SEEDS]
    repeated = len(set(run.seeds)) < len(run.seeds)
    return [
        Shown(joined(*own or (run.name,), *_member(k, seed, repeated)), k)
        for k, seed in enumerate(run.seeds)
    ]


def _member(number: int, seed: int, repeated: bool) -> list[str]:
    """A member by its seed, and by its number where seeds repeat."""
    return [*([f"member {number}"] if repeated else []), f"seed {seed}"]


def values(run: Run, mirrored: Shown, rows: Sequence[Row]) -> Row:
    """What a mirror's run shows of the rows of one step.

    Returns:
        The member's metrics; or of a whole point `METRIC`, its mean over the members,
        and `STATISTIC/METRIC` for each statistic of `over_members` that is known: so
        each statistic has sections of its own, and those of the means stay short.
    """
    if mirrored.member is not None:
        return {k: v for k, v in rows[mirrored.member].items() if k not in LABELS}
    names = [name for name in rows[0] if name not in LABELS]
    columns = [[row[name] for row in rows] for name in names]
    found = run.over_members(columns) if names else {}
    return {
        f"{kind}/{name}" if kind else name: value
        for kind, column in found.items()
        for name, value in zip(names, column, strict=True)
        if not kind or math.isfinite(value)
    }


def config(run: Run, mirrored: Shown) -> Document:
    """The config of a member, or of a point: lists where its members differ."""
    provenance = {"provenance": dict(run.provenance)}
    if mirrored.member is None:
        return {**_common(run.configs), "members": len(run.seeds), **provenance}
    labels = {"seed": run.seeds[mirrored.member], "member": mirrored.member}
    return {**run.configs[mirrored.member], **labels, **provenance}


def _common(configs: Sequence[Json]) -> Json:
    """One value for all, key by key; the list of them where they are not equal."""
    if all(value == configs[0] for value in configs):
        return configs[0]
    if all(isinstance(v, Mapping) and v.keys() == configs[0].keys() for v in configs):
        return {key: _common([v[key] for v in configs]) for key in configs[0]}
    return list(configs)


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
