"""Figures from numbers: learning curves and sensitivities, as PNG and as PDF.

Everything takes arrays and gives a matplotlib `Figure`, without pyplot's global state.
"""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rl_grads import atomic
from rl_grads.analysis.statistics import interval, iqm, mean
from rl_grads.typing import PyTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (6.4, 3.8)  # Inches.
_DPI = 130
_SHORT = 24  # Characters of a label.
# Wide enough on the axis that a logarithm shows more.
_WIDE = 10.0
# Okabe & Ito's colours, which are told apart without red or green; and dashes, which
# are on paper.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
# Of fonts that a publisher takes: TrueType, whole, in place of Type 3.
_FONTS: Any = {"pdf.fonttype": 42}


class Line(NamedTuple):
    """A line of a figure.

    Attributes:
        label: What the legend calls it.
        x: Where, `[n]`.
        y: Values, `[n]`; nan leaves a gap.
        low: Lower edge of a band around it, `[n]`, or None.
        high: Upper edge.
        style: Matplotlib's name of its style, `"--"` for what is not measured; by
            default a dash of its own, as its colour.
    """

    label: str
    x: Any
    y: Any
    low: Any = None
    high: Any = None
    style: str | None = None


class Axis(NamedTuple):
    """An axis.

    Attributes:
        label: In words, with the unit.
        log: Whether its scale is logarithmic.
        low: Its lower limit; None fits it to what is drawn.
        high: Its upper limit.
        whole: Whether only whole numbers are marked, as of states.
    """

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False


def lines(
    given: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    title: str | None = None,
    marker: str | None = None,
) -> "Figure":
    """Several lines in one figure, with a legend.

    Args:
        given: The lines.
        x: The horizontal axis.
        y: The vertical axis.
        title: Stands above.
        marker: Matplotlib's name of a marker at each value.

    Example:
        >>> figure = lines([Line("a", [0, 1], [2, 3])], Axis("x"), Axis("y"))
        >>> figure.axes[0].get_ylabel()
        'y'
    """
    figure, axes = _figure(x, y, title)
    for line in given:
        _draw(axes, line, marker)
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    _legend(axes)
    return figure


def quartile_line(label: str, x: PyTree, values: PyTree) -> Line:
    """The median over members, between the quartiles.

    Args:
        label: What the legend calls it.
        x: Where, `[n]`.
        values: `[members, n]`.

    Example:
        >>> line = quartile_line("a", [0], [[0.0], [1.0], [2.0], [3.0], [4.0]])
        >>> line.low.tolist(), line.y.tolist(), line.high.tolist()
        ([1.0], [2.0], [3.0])
    """
    low, middle, high = np.quantile(np.asarray(values), [0.25, 0.5, 0.75], axis=0)
    return Line(label, np.asarray(x), middle, low, high)


def mean_line(label: str, x: PyTree, values: PyTree) -> Line:
    """The mean over members with its 95 % bootstrap interval.

    Args:
        label: What the legend calls it.
        x: Where, `[n]`.
        values: `[members, n]`.

    Example:
        >>> line = mean_line("a", [0, 1], [[0.0, 1.0], [2.0, 3.0]])
        >>> line.y.tolist()
        [1.0, 2.0]
    """
    columns = np.asarray(values, float).T
    ends = [interval(column, mean)[:2] for column in columns]
    low, high = np.array(ends, float).T
    return Line(label, np.asarray(x), mean(columns), low, high)


class Panel(NamedTuple):
    """Lines on axes of their own."""

    lines: Sequence[Line]
    x: Axis
    y: Axis
    title: str | None = None


def grid(rows: Sequence[Sequence[Panel]], title: str | None = None) -> "Figure":
    """Panels in rows, with one legend: lines of equal label have equal colours.

    Args:
        rows: Of equal length; columns share their horizontal axis.
        title: Stands above all of them.

    Raises:
        ValueError: Rows differ in length, or there is none.

    Example:
        >>> line = Line("a", [0, 1], [2, 3])
        >>> figure = grid([[Panel([line], Axis("x"), Axis("y"))]])
        >>> len(figure.axes)
        1
    """
    from matplotlib.figure import Figure

    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        raise ValueError(f"rows: expected rows of one length, got {sorted(widths)}")
    columns = widths.pop()
    size = (0.72 * _SIZE[0] * columns + 1.5, 0.72 * _SIZE[1] * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(len(rows), columns, sharex="col", squeeze=False).flat
    panels = [panel for row in rows for panel in row]
    labels = dict.fromkeys(line.label for panel in panels for line in panel.lines)
    looks = {label: look(number) for number, label in enumerate(labels)}
    for axes, panel in zip(every, panels, strict=True):
        _fill(axes, panel, looks)
    handles = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    figure.legend(
        handles=list(handles.values()),
        loc="outside right upper",
        frameon=False,
        fontsize="small",
    )
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def look(number: int) -> dict[str, Any]:
    """Colour and dash of a line, as Matplotlib names them; 49 differ.

    Example:
        >>> look(1), look(8)["linestyle"]
        ({'color': '#D55E00', 'linestyle': '--'}, '-.')
    """
    turn, at = divmod(number, len(COLORS))
    return {"color": COLORS[at], "linestyle": _DASHES[(at + turn) % len(_DASHES)]}


def _fill(axes: "Axes", panel: Panel, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a panel."""
    _label(axes, panel.x, panel.y, panel.title)
    for line in panel.lines:
        _draw(axes, line, None, looks[line.label])
    axes.set_xlim(panel.x.low, panel.x.high)
    axes.set_ylim(panel.y.low, panel.y.high)


_STEPS = Axis("environment steps per member")


class Series(NamedTuple):
    """A metric of one run over training.

    Attributes:
        label: What the legend calls the run.
        steps: Environment steps, `[time]`.
        values: `[members, time]`; nan where nothing was measured.
    """

    label: str
    steps: Any
    values: Any


def curves(runs: Sequence[Series], metric: str, *, log_y: bool = False) -> "Figure":
    """A metric over training: interquartile means over members.

    One run is drawn with all its members, several with a line for each run and its
    95 % bootstrap interval. Steps at which nothing was measured are left out; where one
    is left, it is drawn as points.

    Args:
        runs: One or more runs.
        metric: What it is, in words with its unit: the label of the vertical axis.
        log_y: Make the vertical scale logarithmic.

    Raises:
        ValueError: There is no run, or values are not `[members, time]`.

    Example:
        >>> figure = curves([Series("a", [10, 20], [[0.0, 1.0], [2.0, 3.0]])], "loss")
        >>> [float(y) for y in figure.axes[0].lines[-1].get_ydata()]
        [1.0, 2.0]
    """
    if not runs:
        raise ValueError("runs: expected at least one")
    seen = [_measured(run) for run in runs]
    y = Axis(metric, log_y)
    if len(seen) > 1:
        counts = [len(run.values) for run in seen]
        return compared([iqm_line(run) for run in seen], counts, y)
    figure, axes = _figure(_STEPS, y, _members_title(seen[0]))
    _draw_members(axes, seen[0])
    return figure


def compared(given: Sequence[Line], members: Sequence[int], y: Axis) -> "Figure":
    """Several runs over training, a line each.

    Args:
        given: What `iqm_line` makes of each run.
        members: How many members they have.
        y: The metric.

    Example:
        >>> made = compared([Line("a", [10, 20], [1, 2])], [5], Axis("loss"))
        >>> made.get_suptitle()
        'interquartile means over n = 5 members, 95 % bootstrap intervals'
    """
    over = " to ".join(str(n) for n in dict.fromkeys((min(members), max(members))))
    title = f"interquartile means over n = {over} members, 95 % bootstrap intervals"
    return lines(given, _STEPS, y, title=title)


def panels(runs: Sequence[Series]) -> "Figure":
    """Several metrics of one run, one above the other, with all members.

    Args:
        runs: One for each metric; the label is its name.

    Raises:
        ValueError: There is none, or values are not `[members, time]`.

    Example:
        >>> figure = panels([Series("rate", [10, 20], [[0.5, 0.25]])])
        >>> figure.axes[0].get_ylabel()
        'rate'
    """
    from matplotlib.figure import Figure

    if not runs:
        raise ValueError("runs: expected at least one")
    seen = [_measured(run) for run in runs]
    size = (_SIZE[0], 0.6 * _SIZE[1] * (len(seen) + 0.5))
    figure = Figure(figsize=size, layout="constrained")
    for axes, run in zip(
        figure.subplots(len(seen), sharex=True, squeeze=False)[:, 0], seen, strict=True
    ):
        axes.set_ylabel(run.label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        _draw_members(axes, run)
    figure.axes[0].set_title(_members_title(seen[0]), fontsize="medium")
    figure.axes[-1].set_xlabel("environment steps per member")
    return figure


def iqm_line(run: Series) -> Line:
    """The interquartile mean over members with its 95 % bootstrap interval.

    Args:
        run: A metric of one run; steps without a value are left out.

    Example:
        >>> iqm_line(Series("a", [10, 20], [[0.0, 1.0], [2.0, 3.0]])).y.tolist()
        [1.0, 2.0]
    """
    run = _measured(run)
    columns = run.values.T
    ends = np.array([interval(column, iqm)[:2] for column in columns], float)
    low, high = ends.reshape(-1, 2).T
    return Line(run.label, run.steps, iqm(columns), low, high)


def _members_title(run: Series) -> str:
    return f"n = {len(run.values)} members (thin) and their interquartile mean"


def _draw_members(axes: "Axes", run: Series) -> None:
    """Every member of a run, and their interquartile mean."""
    marker = "o" if run.steps.size == 1 else None
    both: dict[str, Any] = {"linestyle": "-", "marker": marker}
    axes.plot(run.steps, run.values.T, color="#9ab", linewidth=0.8, **both)
    axes.plot(run.steps, iqm(run.values.T), color="#146", linewidth=2.2, **both)


def _measured(run: Series) -> Series:
    steps, values = np.asarray(run.steps), np.asarray(run.values, float)
    if values.ndim != 2 or values.shape[1:] != steps.shape:
        raise ValueError(
            f"values: expected [members, {steps.size}], got the shape {values.shape}"
        )
    measured = ~np.isnan(values).all(0)
    return Series(run.label, steps[measured], values[:, measured])


# ------------------------------------------------------------------------- sensitivity


class Point(NamedTuple):
    """A point of a sweep.

    Attributes:
        x: The swept number.
        line: Which line it belongs to.
        values: The final metric of every member, `[members]`.
        diverged: Whether a member diverged in training.
    """

    x: float
    line: str
    values: Any
    diverged: bool = False


def sweep_points(
    x: Sequence[float], lines: Sequence[str], values: PyTree, diverged: Sequence[bool]
) -> list[Point]:
    """The points of a sweep from its members, those with equal `x` and line together.

    Args:
        x: The swept number of each member.
        lines: The line of each member.
        values: The final metric of each member, `[members]`.
        diverged: Whether each member diverged.

    Example:
        >>> sweep_points([1.0, 1.0], ["a", "a"], [3.0, 5.0], [False, True])
        [Point(x=1.0, line='a', values=[3.0, 5.0], diverged=True)]
    """
    places: dict[tuple[float, str], list[int]] = {}
    for index, place in enumerate(zip(x, lines, strict=True)):
        places.setdefault(place, []).append(index)
    return [
        Point(*place, [float(values[i]) for i in own], any(diverged[i] for i in own))
        for place, own in places.items()
    ]


def sensitivity(
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    *,
    worst: float | None = None,
    higher_is_better: bool = False,
) -> "Figure":
    """A final metric over a number that was swept, a line for each method.

    Means over members with 95 % bootstrap intervals. Points that diverged, with a
    value that is not finite, or worse than the worst value shown, stand on that as
    crosses: at the top, or at the bottom where higher is better.

    Args:
        points: Those of one line need not be sorted.
        x: The swept number; `log` is set where all are positive and far apart.
        y: The metric.
        worst: Worst value shown; by default the worst end of all intervals.
        higher_is_better: Which end of the metric is the good one.

    Raises:
        ValueError: There are no points.

    Example:
        >>> points = [Point(0.1, "td", [1.0, 2.0]), Point(0.2, "td", [9.0], True)]
        >>> figure = sensitivity(points, Axis("step size"), Axis("error"))
        >>> [float(height) for height in figure.axes[0].lines[0].get_ydata()]
        [1.5, 1.5]
    """
    if not points:
        raise ValueError("points: expected at least one")
    sign = -1 if higher_is_better else 1
    limit = _Limit(_worst(points, sign) if worst is None else worst, sign)
    where = np.array([p.x for p in points], float)
    wide = bool((where > 0).all() and where.max() >= _WIDE * where.min())
    counts = {len(p.values) for p in points}
    over = f"n = {min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")
    title = f"means over {over} members, 95 % bootstrap intervals; x: diverged or worse"
    figure, axes = _figure(x._replace(log=x.log or wide), y, title)
    for label in dict.fromkeys(p.line for p in points):
        own = sorted((p for p in points if p.line == label), key=lambda p: p.x)
        color = _draw(axes, _sensitivity_line(label, own, limit), "o")
        lost = [p.x for p in own if _is_lost(p, limit)]
        axes.plot(lost, [limit.at] * len(lost), "x", color=color, markersize=9, mew=2)
    axes.axhline(limit.at, color="0.6", linewidth=0.8, linestyle=":")
    _legend(axes)
    return figure


class _Limit(NamedTuple):
    """The worst value shown; `sign` is 1 where it is the highest, else -1."""

    at: float
    sign: int


def _worst(points: Sequence[Point], sign: int) -> float:
    """The worst end of the intervals of what did not diverge; 1 if all did."""
    anything = _Limit(sign * np.inf, sign)
    groups = [p.values for p in points if not _is_lost(p, anything)]
    ends = [_end(values, sign) for values in groups]
    return max(ends, key=lambda end: sign * end, default=1.0)


def _end(values: PyTree, sign: int) -> float:
    """An end of the interval of the mean; of one value that itself."""
    between = interval(values, mean)
    end = between.high if sign > 0 else between.low
    return float(mean(values)) if end is None else end


def _is_lost(point: Point, limit: _Limit) -> bool:
    """Whether a point diverged or is worse than the limit."""
    # The mean of values that are not all finite is nan, on no side of anything.
    shown = limit.sign * float(mean(point.values)) <= limit.sign * limit.at
    return point.diverged or not shown


def _sensitivity_line(label: str, points: Sequence[Point], limit: _Limit) -> Line:
    """Means, those of lost points at the limit, with their intervals."""
    lost = np.array([_is_lost(p, limit) for p in points])
    heights = np.where(lost, limit.at, [float(mean(p.values)) for p in points])
    ends = np.array([interval(p.values, mean)[:2] for p in points], float).T
    cut = np.minimum if limit.sign > 0 else np.maximum
    low, high = np.where(lost, np.nan, cut(ends, limit.at))
    return Line(
        label=label,
        x=np.array([p.x for p in points], float),
        y=heights,
        low=low,
        high=high,
    )


# ------------------------------------------------------------------------------- files


def save(figure: "Figure", stem: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Write `STEM.png` and `STEM.pdf`; equal figures give equal files.

    Args:
        figure: What to draw.
        stem: Path without an ending; its folder is made. One with the ending of a
            format is that file alone.

    Returns:
        The paths.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    kind = stem.suffix.removeprefix(".")
    paths = [stem] if kind in _FORMATS else []
    paths = paths or [stem.with_name(f"{stem.name}.{kind}") for kind in _FORMATS]
    for path in paths:
        kind = path.suffix.removeprefix(".")
        atomic.write_bytes(path, _drawn(figure, format=kind, **_FORMATS[kind]))
    return tuple(paths)


_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": _DPI, "metadata": {"Software": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}


def _drawn(figure: "Figure", **how: PyTree) -> bytes:
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(_FONTS):
        figure.savefig(file, **how)
    return file.getvalue()


# ----------------------------------------------------------------------------- details


def _figure(x: Axis, y: Axis, title: str | None) -> tuple["Figure", "Axes"]:
    """An empty figure in the house's look."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    _label(axes, x, y, None)
    if title:  # Over the legend as well: it may be longer than the axes.
        figure.suptitle(title, fontsize="medium")
    return figure, axes


def _label(axes: "Axes", x: Axis, y: Axis, title: str | None) -> None:
    """Names, scales and limits, in the house's look."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    axes.set_xscale("log" if x.log else "linear")
    axes.set_yscale("log" if y.log else "linear")
    if x.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    looks = [look(number) for number in range(len(COLORS) * len(_DASHES))]
    axes.set_prop_cycle(
        color=[one["color"] for one in looks],
        linestyle=[one["linestyle"] for one in looks],
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize="medium")


def _legend(axes: "Axes") -> None:
    """A legend beside the axes where its labels are short, else within."""
    style: dict[str, Any] = {"frameon": False, "fontsize": "small"}
    if max(len(str(line.get_label())) for line in axes.lines) <= _SHORT:
        style |= {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    axes.legend(**style)


def _draw(
    axes: "Axes",
    line: Line,
    marker: str | None,
    look: Mapping[str, Any] | None = None,
) -> str:
    """Draw a line and its band, and return its colour."""
    style = dict(look or {})
    if line.style is not None:
        style["linestyle"] = line.style
    alone = np.isfinite(np.asarray(line.y, float)).sum() == 1
    if alone:
        marker = marker or "o"  # A line needs two.
    (drawn,) = axes.plot(
        line.x, line.y, label=line.label, marker=marker, markersize=4, **style
    )
    color = str(drawn.get_color())
    if line.low is not None and alone:
        axes.vlines(line.x, line.low, line.high, color=color, alpha=0.4, lw=2)
    elif line.low is not None:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.2, lw=0)
    return color
