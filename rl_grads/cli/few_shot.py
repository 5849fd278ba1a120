"""What the few-shot modules of `experiments/` share: a table, and a figure."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_grads.analysis import plots
from rl_grads.analysis.statistics import interval, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def table(errors: Mapping[str, np.ndarray], after: Sequence[int]) -> str:
    """Means over tasks with 95 % bootstrap intervals, in Markdown.

    Args:
        errors: By method, after 0, 1, .. K updates, `[tasks, K + 1]`.
        after: The numbers of updates that have a column.

    Example:
        >>> print(table({"a": np.array([[1.0], [2.0], [3.0]])}, [0]))
        | start | after 0 updates |
        |---|---|
        | a | 2 (1 to 3) |
    """
    rows = [["start", *(f"after {k} updates" for k in after)]]
    rows += [[name, *(cell(e[:, k]) for k in after)] for name, e in errors.items()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def cell(values: np.ndarray) -> str:
    """A mean over tasks `[tasks]` with its 95 % bootstrap interval.

    Example:
        >>> cell(np.array([1.0, 2.0, 3.0]))
        '2 (1 to 3)'
    """
    found, centre = interval(values, mean), f"{float(mean(values)):.3g}"
    if found.low is None:
        return centre
    return f"{centre} ({found.low:.3g} to {found.high:.3g})"


def draw(errors: Mapping[str, np.ndarray], label: str, picture: pathlib.Path) -> None:
    """Means over the number of updates, with their intervals.

    Args:
        errors: As for `table`.
        label: What the errors are.
        picture: File to write, or the stem of a PNG and a PDF.
    """
    tasks = len(next(iter(errors.values())))
    plots.save(figure(lines(errors), tasks, label), picture)


def lines(errors: Mapping[str, np.ndarray]) -> list[plots.Line]:
    """Means over tasks with their intervals, a line for each method.

    Args:
        errors: As for `table`.

    Example:
        >>> [line.y.tolist() for line in lines({"a": np.array([[1.0, 4.0]])})]
        [[1.0, 4.0]]
    """
    return [
        plots.mean_line(name, np.arange(values.shape[1]), values)
        for name, values in errors.items()
    ]


def figure(given: Sequence[plots.Line], tasks: int, label: str) -> "Figure":
    """The figure of such lines.

    Args:
        given: What `lines` made.
        tasks: Over how many tasks.
        label: What the errors are.
    """
    x = plots.Axis("updates on a fresh task", whole=True)
    title = f"means over n = {tasks} tasks, 95 % bootstrap intervals"
    return plots.lines(given, x, plots.Axis(label, log=True), title=title, marker="o")
