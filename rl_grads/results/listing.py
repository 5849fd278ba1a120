"""Runs and sweeps below a folder, the newest last; reads no rows."""

import datetime
import os
import pathlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.analysis import tasks
from rl_grads.analysis.statistics import iqm
from rl_grads.results import points as places
from rl_grads.results.points import Found, Point, document
from rl_grads.results.words import duration, shown
from rl_grads.tracking import folder, lease
from rl_grads.tracking.labels import differences
from rl_grads.tracking.metrics import headline, higher_is_better
from rl_grads.typing import Json

_NUMBERS = (int, float, type(None))
_INFINITIES = ("Infinity", "-Infinity")


class State(NamedTuple):
    """A run or a point, as its documents have it.

    Attributes:
        directory: Its folder.
        began: When; None where it does not say.
        ended: When; None while it trains, or where it does not say.
        status: In a word.
        point: What is known of its config; None where it has no rows yet.
    """

    directory: pathlib.Path
    began: datetime.datetime | None
    ended: datetime.datetime | None
    status: str
    point: Point | None


class Entry(NamedTuple):
    """A run, or a sweep with its points."""

    directory: pathlib.Path
    states: tuple[State, ...]

    @property
    def began(self) -> datetime.datetime | None:
        """When its first point did."""
        return min((s.began for s in self.states if s.began is not None), default=None)


def entries(found: Found, tops: Sequence[pathlib.Path]) -> list[Entry]:
    """What lies below some folders: runs and sweeps, the newest last.

    Args:
        found: Points and what is none; those without rows are listed as well.
        tops: The folders; where one is a sweep its points are listed by themselves.
    """
    empty = [skip.directory for skip in found.skipped if skip.kind == places.EMPTY]
    states = [*map(_state, found.points), *(_bare(place) for place in empty)]
    groups: dict[pathlib.Path, list[State]] = {}
    for state in sorted(states, key=lambda s: _in_order(s.directory)):
        groups.setdefault(_home(state.directory, tops), []).append(state)
    unsorted = [Entry(home, tuple(own)) for home, own in groups.items()]
    return sorted(unsorted, key=lambda entry: (_age(entry), str(entry.directory)))


def _in_order(directory: pathlib.Path) -> tuple[str, int, str]:
    name = directory.name
    number = int(name) if name.isdecimal() else -1
    return (str(directory.parent), number, name)


def _age(entry: Entry) -> float:
    """When it began; where it does not say, when its folder was last changed."""
    if entry.began is not None:
        return entry.began.timestamp()
    return entry.directory.stat().st_mtime


def _home(directory: pathlib.Path, tops: Sequence[pathlib.Path]) -> pathlib.Path:
    """The sweep of a point, unless it is asked for by itself; of a run the run."""
    above = directory.parent
    is_point = directory.name.isdecimal() and not (above / folder.ROWS).exists()
    return (
        above if is_point and above not in tops and directory not in tops else directory
    )


def _state(point: Point) -> State:
    return _bare(point.directory)._replace(point=point)


def _bare(directory: pathlib.Path) -> State:
    run = document(directory / folder.RUN)
    summary = document(directory / folder.SUMMARY)
    return State(
        directory=directory,
        began=_time(run.get("start")),
        ended=_time(run.get("end")),
        status=_status(directory, run, summary),
        point=None,
    )


def _time(value: Json) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _status(
    directory: pathlib.Path, run: Mapping[str, Json], summary: Mapping[str, Json]
) -> str:
    """What became of a run; who has it now counts more than what it says of itself."""
    owner = _owner(directory, run.get("population"))
    if lease.holder(owner, seconds=0.0) is not None:
        return "running"
    told = summary.get("status", run.get("status"))
    if told == "running":  # Of a process that is gone, or on another machine.
        host = lease.host(owner)
        return "stopped" if host is None else f"running on {host}?"
    return told if isinstance(told, str) else "not begun"


def _owner(directory: pathlib.Path, population: Json) -> pathlib.Path:
    """The folder whose lease is a point's: its own, the one above, or one beside."""
    if population == "..":
        return directory.parent
    beside = str(population).removeprefix("../")
    is_beside = population == f"../{beside}" and "/" not in beside and beside != ".."
    return directory.parent / beside if is_beside else directory


# ------------------------------------------------------------------------- what is said


def told(entry: Entry, now: datetime.datetime) -> Iterator[str]:
    """Lines of at most 80 columns: where it lies, and what it has come to.

    Args:
        entry: The run or sweep.
        now: The time, with its offset.
    """
    first, *rest = entry.states
    parts = [_when(entry, now)]
    if rest:
        words = [state.status for state in entry.states]
        counts = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
        parts.append(f"{len(words)} points: {', '.join(counts)}")
    else:
        parts.append(first.status)
    yield os.path.relpath(entry.directory)
    text = "; ".join([", ".join(filter(None, parts)), *_value(entry)])
    yield from textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="  ")


def _when(entry: Entry, now: datetime.datetime) -> str:
    """When it began, and how long it took."""
    if entry.began is None:
        return ""
    going_on = any(state.status == "running" for state in entry.states)
    ends = [state.ended for state in entry.states if state.ended is not None]
    end = now if going_on else max(ends, default=None)
    took = "" if end is None else f", {duration((end - entry.began).total_seconds())}"
    return f"{entry.began:%Y-%m-%d %H:%M}{took}"


def _value(entry: Entry) -> Iterator[str]:
    """The headline metric, of a sweep that of its best point."""
    points = [state.point for state in entry.states if state.point is not None]
    names = [
        name for point in points for name in point.summary if _is_final(point, name)
    ]
    if not names:
        return
    metric = headline(names)
    sign = 1 if higher_is_better(metric) else -1
    known = [point for point in points if _is_final(point, metric)]
    best = max(known, key=lambda point: _rank(sign * float(iqm(final(point, metric)))))
    of = f"best of {len(points)} " if len(points) > 1 else ""
    found = tasks.estimate(lambda scores: iqm(scores[0]), [final(best, metric)])
    yield f"{of}{metric} {shown(found)}"
    yield from differences(best.settings, places.differing(points)).values()


def _rank(value: float) -> float:
    return -np.inf if np.isnan(value) else value


def _is_final(point: Point, name: str) -> bool:
    """Whether a summary has final values of a metric."""
    value = point.summary.get(name)
    members = value.get("members") if isinstance(value, dict) else None
    return (
        isinstance(members, list)
        and bool(members)
        and all(isinstance(v, _NUMBERS) or v in _INFINITIES for v in members)
    )


def final(point: Point, metric: str) -> np.ndarray:
    """The final values of a metric in a point's summary, `[members]`."""
    members = point.summary[metric]["members"]
    return np.array([np.nan if v is None else float(v) for v in members])
