"""Runs that are read together: their rows, their final values, their curves."""

import collections
import json
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from rl_grads.config import ConfigError, nearest
from rl_grads.results import points as places
from rl_grads.results import rows
from rl_grads.results.points import Point, Skipped
from rl_grads.results.rows import File, Table
from rl_grads.tracking import folder
from rl_grads.tracking.files import read_rows
from rl_grads.tracking.metrics import headline
from rl_grads.typing import Value

if TYPE_CHECKING:
    import pandas

Read = TypeVar("Read")


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=4)


def load(*paths: str | pathlib.Path, tell: Callable[[str], None] = _warn) -> "Runs":
    """Every run at or below some folders.

    What is no run of ours, or not whole, is left out and told: one line for each kind.

    Args:
        paths: Runs, points, sweeps, or folders above them.
        tell: Is given the lines; by default they are warnings.

    Raises:
        ConfigError: One is no folder, or there is no run in any.

    Example:
        >>> import rl_grads as rg
        >>> runs = rg.results.load("runs")                          # doctest: +SKIP
        >>> runs.frame().groupby("agent")["evaluation/return"].max()  # doctest: +SKIP
    """
    given = [pathlib.Path(path) for path in paths]
    found = places.find(given)
    lines = places.told(found.skipped, found.count)
    shown = ", ".join(map(str, given))
    if not found.points:
        expected = f"expected a run or a sweep, with {folder.ROWS}"
        raise ConfigError("; ".join([f"{shown}: {expected}", *lines]))
    for line in lines:
        tell(line)
    return Runs(found.points, shown, tell)


class Curve(NamedTuple):
    """A metric of one point over training.

    Attributes:
        steps: Environment steps at which it was measured, `[time]`.
        values: `[members, time]`; nan where one member has none.
    """

    steps: np.ndarray
    values: np.ndarray

    def area(self) -> np.ndarray:
        """Its mean over time, `[members]`: the area under it, by its length.

        Example:
            >>> Curve(np.array([1, 2]), np.array([[1.0, 3.0]])).area().tolist()
            [2.0]
        """
        return np.mean(self.values, axis=1)


class Runs:
    """Points that are read together.

    Args:
        points: The points.
        name: What messages call them.
        tell: Is given a line for what is left out.

    Attributes:
        points: Those whose files can be read.
        name: What messages call them.
    """

    def __init__(self, points: Sequence[Point], name: str, tell: Callable[[str], None]):
        self.points, self.name, self._tell = tuple(points), name, tell
        self._names: dict[pathlib.Path, list[str]] = {}

    @property
    def keys(self) -> list[str]:
        """Keys in which the points differ, but for seeds, and how they are logged."""
        return places.differing(self.points)

    def metrics(self, point: Point | None = None) -> list[str]:
        """The metrics that a point has logged; of all points where None is given."""
        if not self._names:
            found = self._read(rows.names)
            pairs = zip(self.points, found, strict=True)
            self._names = {p.directory: names for p, names in pairs}
        if point is not None:
            return self._names[point.directory]
        return sorted({name for names in self._names.values() for name in names})

    def metric(self, asked: str | None = None) -> str:
        """The metric that was asked for; by default the evaluation of what was learned.

        Raises:
            ConfigError: It was not logged; the message names the nearest.
        """
        known = self.metrics()
        if not known:
            raise ConfigError(f"{self.name}: expected a run that has logged a metric")
        if asked is None:
            return headline(known)
        if asked not in known:
            expected = f"expected a metric of {self.name} ({', '.join(known)})"
            raise ConfigError(f"--metric={asked}: {expected}{nearest(asked, known)}")
        return asked

    def frame(self, metrics: Sequence[str] | None = None) -> "pandas.DataFrame":
        """All rows: the run, the keys in which the points differ, step, seed, metrics.

        Args:
            metrics: Those that are wanted; by default all.
        """
        names = self.metrics() if metrics is None else metrics
        return self._framed(self._read(lambda files: rows.read(files, names)))

    def finals(self, metrics: Sequence[str] | None = None) -> "pandas.DataFrame":
        """One row for each point and seed: the last value that every metric had.

        `step` is that of its last row. The columns are those of `frame`.

        Args:
            metrics: Those that are wanted; by default all.
        """
        names = self.metrics() if metrics is None else metrics
        return self._framed(self._read(lambda files: rows.last(files, names)))

    def final_values(self, metric: str) -> list[np.ndarray]:
        """The final values of a metric at each point, `[members]`."""
        table = self._read(lambda files: rows.last(files, [metric]))
        numbers = range(len(self.points))
        return [table.metrics[metric][table.file == k] for k in numbers]

    def curves(self, metrics: Sequence[str]) -> list[dict[str, Curve]]:
        """Some metrics over training at each point, without those it has not logged."""
        table = self._read(lambda files: rows.read(files, metrics))
        numbers = range(len(self.points))
        return [_curves(table, table.file == k) for k in numbers]

    def _framed(self, table: Table) -> "pandas.DataFrame":
        import pandas

        folders = [str(point.directory) for point in self.points]
        codes = table.file.astype(np.int32)
        columns: dict[str, Any] = {
            "run": pandas.Categorical.from_codes(codes, folders),  # pyright: ignore
            **{key: self._column(key, codes) for key in self.keys},
            "step": table.step,
            "seed": table.seed,
            **table.metrics,
        }
        return pandas.DataFrame(columns, copy=False)

    def _column(self, key: str, codes: np.ndarray) -> Value:
        """The value of a key in every row: numbers, truth values, or categories."""
        import pandas

        values = [point.settings.get(key) for point in self.points]
        kinds = {type(value) for value in values}
        if kinds <= {int, float, type(None)} or kinds == {bool}:
            missing = [np.nan if value is None else value for value in values]
            return np.array(missing)[codes]
        return pandas.Categorical([_text(value) for value in values]).take(codes)

    def _read(self, call: Callable[[Sequence[File]], Read]) -> Read:
        """Call with the files; points with a damaged one are left out from then on."""
        try:
            return call(_files(self.points))
        except rows.Damaged as damaged:
            self._leave_out(damaged.files)
            return call(_files(self.points))

    def _leave_out(self, wrong: Sequence[int]) -> None:
        lost = [_damaged(self.points[k].directory) for k in wrong]
        for line in places.told(lost, len(self.points)):
            self._tell(line)
        self.points = tuple(p for k, p in enumerate(self.points) if k not in wrong)
        if not self.points:
            raise ConfigError(f"{self.name}: expected rows in {folder.ROWS}")


def _damaged(directory: pathlib.Path) -> Skipped:
    """What is wrong with its rows, in the words of those who go on with a run."""
    path = directory / folder.ROWS
    reason = f"{path}: expected rows of metrics, one per member at each step"
    try:
        collections.deque(read_rows(path), maxlen=0)
    except ConfigError as error:
        reason = str(error)
    return Skipped(directory, places.DAMAGED_ROWS, reason)


def _files(points: Sequence[Point]) -> list[File]:
    return [File(p.directory / folder.ROWS, grows=not p.has_ended) for p in points]


def _text(value: Value) -> str | None:
    """A value as the label of a category."""
    if isinstance(value, str) or value is None:
        return value
    return json.dumps(value)


def _curves(table: Table, own: np.ndarray) -> dict[str, Curve]:
    """The curves of the rows of one point, where each was measured at all."""
    members = int(table.member[own].max(initial=0)) + 1
    steps = table.step[own][::members]
    found = {}
    for name, values in table.metrics.items():
        by_member = values[own].reshape(-1, members).T
        there = ~np.isnan(by_member).all(0)
        if there.any():
            found[name] = Curve(steps[there], by_member[:, there])
    return found
