"""A metric over two sets of keys: in every cell a value, its interval and its n."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.analysis import statistics, tasks
from rl_grads.analysis.tasks import Estimate
from rl_grads.config import ConfigError
from rl_grads.results import groups
from rl_grads.results.groups import ENVIRONMENT, Place
from rl_grads.results.runs import Runs
from rl_grads.tracking.metrics import higher_is_better

STATISTICS = {"iqm": statistics.iqm, "mean": statistics.mean}
BEST, LIKE_BEST = "best", "like the best"
_LEVEL = 0.05


class Cell(NamedTuple):
    """What some runs have come to.

    Attributes:
        found: The statistic, its interval and the number of runs.
        mark: `BEST` of its column; `LIKE_BEST` where a test cannot tell it from that.
    """

    found: Estimate
    mark: str = ""


class Table(NamedTuple):
    """A table of a metric.

    Attributes:
        metric: Its name.
        statistic: A name of `STATISTICS`.
        row_keys: Keys that the rows differ in.
        column_keys: Keys that the columns differ in; none: there is one column.
        rows: The values of the row keys, in words.
        columns: The values of the column keys.
        cells: By row and column; not all may be there.
        repeated: How many members were left out, as their seed was run again.
    """

    metric: str
    statistic: str
    row_keys: tuple[str, ...]
    column_keys: tuple[str, ...]
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    cells: Mapping[tuple[Place, Place], Cell]
    repeated: int


def keys(
    runs: Runs, rows: Sequence[str] | None, columns: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of rows and columns: those that were asked for, then all that differ.

    By default environments are columns; without them the second key that differs is.

    Raises:
        ConfigError: A key is unknown, or the points differ in another one as well.
    """
    for option, asked in (("--rows", rows), ("--columns", columns)):
        groups.check_keys(runs, option, asked or ())
    left = [key for key in runs.keys if key not in (*(rows or ()), *(columns or ()))]
    if columns is None:
        second = [ENVIRONMENT] if ENVIRONMENT in left else left[rows is None :][:1]
        columns = second if rows is None or len(left) == 1 else ()
        left = [key for key in left if key not in columns]
    if rows is None:
        return tuple(left), tuple(columns)
    if left:
        expected = "expected it in --rows or --columns"
        raise ConfigError(
            f"{runs.name}: points differ in {left[0]} as well; {expected}"
        )
    return tuple(rows), tuple(columns)


def make(
    runs: Runs,
    metric: str,
    rows: Sequence[str],
    columns: Sequence[str],
    statistic: str = "iqm",
) -> Table:
    """The final values of a metric, pooled over points that differ in their seeds.

    Args:
        runs: The runs.
        metric: Which metric.
        rows: Keys of the rows.
        columns: Keys of the columns.
        statistic: A name of `STATISTICS`.
    """
    values = runs.final_values(metric)
    found = groups.by_place(runs, [*rows, *columns])
    pools = {at: groups.pool(runs, own, values) for at, own in found.items()}
    split = {at: (at[: len(rows)], at[len(rows) :]) for at in found}
    runs_of = {split[at]: pool.values for at, pool in pools.items()}
    return Table(
        metric=metric,
        statistic=statistic,
        row_keys=tuple(rows),
        column_keys=tuple(columns),
        rows=tuple(dict.fromkeys(row for row, _ in split.values())),
        columns=tuple(dict.fromkeys(column for _, column in split.values())),
        cells=_cells(runs_of, statistic, higher_is_better(metric)),
        repeated=sum(pool.repeated for pool in pools.values()),
    )


def _cells(
    found: Mapping[tuple[Place, Place], np.ndarray], statistic: str, higher: bool | None
) -> dict[tuple[Place, Place], Cell]:
    """The cells, with the best of each column marked."""
    function = STATISTICS[statistic]
    cells = {
        at: Cell(tasks.estimate(lambda scores: function(scores[0]), [values]))
        for at, values in found.items()
    }
    if higher is None:
        return cells
    sign = 1.0 if higher else -1.0
    for column in dict.fromkeys(column for _, column in found):
        own = {at: sign * values for at, values in found.items() if at[1] == column}
        for at, mark in _marks(own, {at: sign * cells[at].found.value for at in own}):
            cells[at] = cells[at]._replace(mark=mark)
    return cells


def _marks(
    scores: Mapping[tuple[Place, Place], np.ndarray],
    values: Mapping[tuple[Place, Place], float],
) -> list[tuple[tuple[Place, Place], str]]:
    """The best of a column, and what chance may have made worse."""
    known = {at: value for at, value in values.items() if not np.isnan(value)}
    if len(scores) < 2 or not known:
        return []
    best = max(known, key=lambda at: known[at])
    others = [at for at in scores if at != best]
    chances = [tasks.permutation_p([scores[best]], [scores[at]]) for at in others]
    alike = np.asarray(tasks.holm(chances)) > _LEVEL
    marked = [(at, LIKE_BEST) for at, same in zip(others, alike, strict=True) if same]
    return [(best, BEST), *marked]
