"""What a person sees while a population trains, and the table at the end."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import rich.console
import rich.progress
import rich.text

from rl_grads.typing import Json

# What stands for how far a run is: the first of these that it has, by its name.
_TELLING = {
    "evaluation/return": ("return", ".1f"),
    "evaluation/rmsve": ("RMSVE", ".3g"),
    "training/return": ("return", ".1f"),
    "loss/td_error_abs": ("|TD error|", ".3g"),
}
_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 10.0
_RATE_WINDOW = 30


class _Mark(NamedTuple):
    time: float
    step: int


class Progress:
    """Throughput, the population's current return, time left.

    A bar on a terminal; elsewhere one plain line at most every ten seconds. Both go to
    standard error.

    Args:
        total: Steps (or episodes) per member in the whole run.
        unit: What is counted, in the plural.
        seeds: One per member.
        enabled: False shows nothing.
        console: Where to draw; None is standard error.
        log: Is given the plain lines, at most one every ten seconds.

    Example:
        >>> with Progress(100_000, "steps", seeds, True) as progress:   # doctest: +SKIP
        ...     progress.update(1000, {"training/return": returns})
    """

    def __init__(
        self,
        total: int,
        unit: str,
        seeds: Sequence[int],
        enabled: bool = True,
        console: rich.console.Console | None = None,
        log: Callable[[str], None] = lambda line: None,
    ):
        self._total, self._unit, self._members = total, unit, len(seeds)
        self._console = console or rich.console.Console(stderr=True)
        self._enabled = enabled
        self._marks: collections.deque[_Mark] = collections.deque(maxlen=_RATE_WINDOW)
        self._shown = self._logged = -math.inf
        self._log = log
        self._told: dict[str, float] = {}
        self._bar = _bar(self._console) if enabled and self._terminal else None
        self._task = self._bar and self._bar.add_task(
            _count(self._members, "seed"), total=total, status="compiling"
        )

    @property
    def _terminal(self) -> bool:
        return self._console.is_terminal

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
            self._bar.refresh()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Tell how far the run is.

        Args:
            step: Steps (or episodes) per member so far.
            metrics: Name to array `[members]`; what tells most of them is shown.
        """
        now = time.monotonic()
        self._marks.append(_Mark(now, step))
        for name in _TELLING:
            if name in metrics:
                self._told[name] = _mean(metrics[name])
        if now - self._logged >= _LINE_SECONDS or step >= self._total:
            self._logged = now
            self._log(self._line(step))
        pause = _REDRAW_SECONDS if self._bar else _LINE_SECONDS
        if self._enabled and (now - self._shown >= pause or step >= self._total):
            self._shown = now
            self._show(step)

    def _show(self, step: int) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step, status=self._status(step))
            self._bar.refresh()
        else:
            print(self._line(step), file=self._console.file, flush=True)

    def _line(self, step: int) -> str:
        return f"{step}/{self._total} {self._unit}  {self._status(step)}"

    def _status(self, step: int) -> str:
        """`8,123 steps/s  return 412.0  ETA 0:31`, with what is known."""
        parts = []
        rate = self._rate()
        if rate > 0:
            parts.append(f"{rate * self._members:,.0f} {self._unit}/s")
        for name, (word, form) in _TELLING.items():
            value = self._told.get(name, math.nan)
            if not math.isnan(value):
                parts.append(f"{word} {value:{form}}")
                break
        if rate > 0:
            parts.append(f"ETA {_duration((self._total - step) / rate)}")
        return "  ".join(parts)

    def _rate(self) -> float:
        """Steps per second and member over the last updates; 0 while unknown."""
        if len(self._marks) < 2:
            return 0.0
        first, last = self._marks[0], self._marks[-1]
        return (last.step - first.step) / max(last.time - first.time, 1e-9)


def _bar(console: rich.console.Console) -> rich.progress.Progress:
    """A bar that is drawn only when it is told to: no thread, no idle work."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("{task.fields[status]}"),
        console=console,
        auto_refresh=False,
    )


def _mean(values: Json) -> float:
    """The mean over the members that have a value."""
    array = np.asarray(values, np.float64)
    known = array[~np.isnan(array)]
    return float(known.mean()) if known.size else math.nan


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


# What is shown first of a run, and in the short table alone.
_FIRST = (
    "evaluation/return",
    "evaluation/rmsve",
    "evaluation/return_iterate",
    "evaluation/rmsve_iterate",
    "evaluation/rmspbe",
    "training/return",
    "loss/td_error_abs",
    "gradient/norm",
)
_SHORT = 6
_NAME = 30  # Characters of a name beside its values.


def result_table(
    summary: Mapping[str, Json], paths: Sequence[str], full: bool = False
) -> rich.console.Group:
    """The end of a run: final metrics with their intervals, notes, what was written.

    At most twelve lines of 80 columns where there are two notes or less, and one place.

    Args:
        summary: Final metrics are its entries with a list `members` (see
            `rl_grads.analysis.statistics.summarise`); `diverged` has an entry for
            every member that diverged, and `notes` are lines below the table.
        paths: What the run wrote, a line each.
        full: Show every metric.

    Returns:
        Something for `rich.console.Console.print`.
    """
    known = [n for n, v in summary.items() if isinstance(v, Mapping) and "members" in v]
    names = [*(n for n in _FIRST if n in known)]
    names += [n for n in known if n not in names and n.startswith("learned/")]
    names += [n for n in known if n not in names]
    if not full:
        names = names[:_SHORT]
    rows = [("metric", "IQM (95 % interval)", "mean (95 % interval)")]
    for name in names:
        value = summary[name]
        rows.append((name, estimate(value.get("iqm")), estimate(value.get("mean"))))
    below = (_counts(summary, len(names), len(known)), *summary.get("notes", ()))
    lines = (*_columns(rows), *below, *paths)
    return rich.console.Group(*(rich.text.Text(s, overflow="fold") for s in lines))


def _columns(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Lines of three columns; a long name has a line of its own."""
    first, second = (max(len(row[k]) for row in rows) for k in (0, 1))
    first = min(first, _NAME)
    for name, iqm, mean in rows:
        if len(name) > first:
            yield name
            name = ""
        yield f"{name:{first}}  {iqm:{second}}  {mean}"


def _counts(summary: Mapping[str, Json], shown: int, known: int) -> str:
    """How many members these are of, and where the other metrics are."""
    members = len(summary.get("seeds", ()))
    lost = len(summary.get("diverged", ()))
    text = f"{_count(members, 'member')}, {lost or 'none'} diverged"
    if shown < known:
        text += f"; {shown} of {known} metrics: --table full shows all"
    return text


def estimate(value: Mapping[str, Json] | None) -> str:
    """A value of a summary in words: `412.0 (398.1 to 425.9)`, or what is known."""
    if value is None or value["value"] is None:
        return "-"
    text = _plain(value["value"])
    if value["low"] is None:
        return text
    return f"{text} ({_plain(value['low'])} to {_plain(value['high'])})"


def _plain(value: float) -> str:
    return f"{value:.4g}"
