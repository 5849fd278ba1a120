"""What a report of runs shows: its tables and figures, as plain data.

A method is what points share whose environment and seeds alone may differ; its line is
the interquartile mean over all its members, with a bootstrap interval.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_grads.analysis.statistics import interval, iqm
from rl_grads.results.runs import Curve, Runs
from rl_grads.tracking import labels
from rl_grads.tracking.metrics import axis_label, higher_is_better

_ENVIRONMENT = "env.id"
_TIMES = 80  # Points of a line, at most.
_RESAMPLES = 500
_DIGITS = 4
# Okabe & Ito (2008), without black and yellow, which is hard to see on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("solid", "dash", "dot", "dashdot")
# What stands in the panel of gradients, in this order; a name that ends in a slash
# stands for all below it.
GRADIENT = (
    "gradient/norm",
    "gradient/semi_full_cosine",
    "diagnostics/noise_scale",
    "clip/update/fraction",
    "clip/per_example/fraction",
    "clip/graph/fraction",
    "clip/per_example/norm_before",
    "learned/",
    "diagnostics/gradient_norm/",
    "diagnostics/update_ratio/",
    "sampling_variance/",
)

Figure = dict[str, Any]  # As Plotly draws it: `data` and `layout`.


class Method(NamedTuple):
    """Points that differ in their environment and their seeds alone.

    Attributes:
        label: What tells it from the others.
        points: The places of its points among all, by environment.
    """

    label: str
    points: Mapping[str, tuple[int, ...]]


class Cell(NamedTuple):
    """A metric of a method in an environment: value, interval and number of members."""

    value: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        """Such as `412 (398 to 426), n = 10`."""
        if not np.isfinite(self.value):
            return f"-, n = {self.n}"
        ends = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.value:.4g}{ends}, n = {self.n}"


class Look(NamedTuple):
    """Colour and dash of a method, the same in every figure."""

    colour: str
    dash: str


class Report(NamedTuple):
    """All that a report shows.

    Attributes:
        name: What was read.
        metric: The headline metric.
        environments: All environments.
        methods: All methods, the best first.
        cells: By method and environment.
        keys: The keys in which the points differ.
        looks: Colour and dash of every method, the same in all figures over training.
        curves: A figure for each environment.
        sensitivity: Figures of the final metric over the numbers that were swept.
        gradients: Figures of gradients over training, by the metric's name.
        status: A line for each point: its folder, its state, and the command.
    """

    name: str
    metric: str
    environments: tuple[str, ...]
    methods: tuple[Method, ...]
    cells: Mapping[tuple[str, str], Cell]
    keys: tuple[str, ...]
    looks: Mapping[str, Look]
    curves: Mapping[str, Figure]
    sensitivity: tuple[Figure, ...]
    gradients: Mapping[str, Figure]
    status: tuple[tuple[str, ...], ...]


def make(runs: Runs, asked: str | None = None) -> Report:
    """Everything that a report of these runs shows.

    Args:
        runs: The runs.
        asked: The headline metric; None: the evaluation of what was learned.

    Raises:
        ConfigError: The metric was not logged.
    """
    metric, known = runs.metric(asked), runs.metrics()
    gradient = [n for n in GRADIENT for n in _below(n, known)]
    curves = runs.curves([metric, *gradient])
    methods = _methods(runs)
    finals = runs.final_values(metric)
    cells = {
        (method.label, environment): _cell(np.concatenate([finals[k] for k in points]))
        for method in methods
        for environment, points in method.points.items()
    }
    environments = tuple(dict.fromkeys(environment for _, environment in cells))
    ranked = sorted(methods, key=lambda m: _rank(m, cells, environments, metric))
    looks = {m.label: _look(k) for k, m in enumerate(methods)}
    return Report(
        name=runs.name,
        metric=metric,
        environments=environments,
        methods=tuple(ranked),
        cells=cells,
        keys=tuple(runs.keys),
        looks=looks,
        curves={
            environment: _over_training(ranked, environment, curves, metric, looks)
            for environment in environments
        },
        sensitivity=tuple(_sensitivities(runs, finals, metric)),
        gradients={
            name: _over_training(ranked, environments[0], curves, name, looks)
            for name in gradient
        },
        status=tuple(_status(runs)),
    )


def _below(name: str, known: Sequence[str]) -> list[str]:
    """The metrics that a name stands for, at most eight of a family."""
    if not name.endswith("/"):
        return [name] if name in known else []
    return [other for other in known if other.startswith(name)][:8]


def _methods(runs: Runs) -> list[Method]:
    """What points share whose environment and seeds alone differ."""
    keys = [key for key in runs.keys if key != _ENVIRONMENT]
    found: dict[str, dict[str, list[int]]] = {}
    for place, point in enumerate(runs.points):
        label = _label([(k, point.settings[k]) for k in keys if k in point.settings])
        environment = str(point.settings.get(_ENVIRONMENT, "-"))
        found.setdefault(label, {}).setdefault(environment, []).append(place)
    return [
        Method(label, {name: tuple(places) for name, places in own.items()})
        for label, own in found.items()
    ]


def _label(settings: Sequence[tuple[str, Any]]) -> str:
    """Such as `lr=0.1, discount=0.9`."""
    values = dict(settings)
    return ", ".join(labels.differences(values, [*values]).values()) or "all"


def _cell(values: np.ndarray) -> Cell:
    ends = interval(values, iqm)
    return Cell(float(iqm(values)), ends.low, ends.high, values.size)


def _rank(
    method: Method,
    cells: Mapping[tuple[str, str], Cell],
    environments: Sequence[str],
    metric: str,
) -> float:
    """Where a method stands in the first environment; one without a value is last."""
    cell = cells.get((method.label, environments[0]))
    if cell is None or not np.isfinite(cell.value):
        return np.inf
    return -cell.value if higher_is_better(metric) else cell.value


def best(report: Report, environment: str) -> str | None:
    """The method with the best value in an environment; None where none has one."""
    sign = 1.0 if higher_is_better(report.metric) else -1.0
    known = {
        method.label: sign * cell.value
        for method in report.methods
        if (cell := report.cells.get((method.label, environment))) is not None
        and np.isfinite(cell.value)
    }
    return max(known, key=lambda label: known[label], default=None)


# ---------------------------------------------------------------------------- figures


def _look(number: int) -> Look:
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    return Look(_COLOURS[number % len(_COLOURS)], dash)


def _over_training(
    methods: Sequence[Method],
    environment: str,
    curves: Sequence[Mapping[str, Curve]],
    metric: str,
    looks: Mapping[str, Look],
) -> Figure:
    """A metric over training, a line with its interval for each method."""
    data: list[Figure] = []
    for method in methods:
        own = [curves[k] for k in method.points.get(environment, ())]
        pooled = _pooled([found[metric] for found in own if metric in found])
        if pooled is not None:
            data += _line(method.label, pooled, looks[method.label])
    title = f"{axis_label(metric)}, {environment}" if environment != "-" else ""
    return _figure(data, title, "environment steps", axis_label(metric))


def _pooled(found: Sequence[Curve]) -> Curve | None:
    """The members of several points that were measured at the same steps."""
    if not found:
        return None
    steps = found[0].steps
    alike = [c.values for c in found if np.array_equal(c.steps, steps)]
    places = np.unique(np.linspace(0, len(steps) - 1, _TIMES).round().astype(int))
    return Curve(steps[places], np.concatenate(alike)[:, places])


def _line(label: str, curve: Curve, look: Look) -> list[Figure]:
    """The band of the interval, and the line itself."""
    values = np.asarray(curve.values, np.float64)
    centre = iqm(values.T)
    ends = [interval(column, iqm, resamples=_RESAMPLES) for column in values.T]
    line = {
        "type": "scatter",
        "x": curve.steps.tolist(),
        "y": _rounded(centre),
        "name": label,
        "legendgroup": label,
        "mode": "lines" if len(centre) > 1 else "markers",
        "line": {"color": look.colour, "dash": look.dash, "width": 2},
    }
    known = [end.low is not None for end in ends]
    if not any(known):
        return [line]
    low = _rounded([end.low if end.low is not None else np.nan for end in ends])
    high = _rounded([end.high if end.high is not None else np.nan for end in ends])
    band = {
        "type": "scatter",
        "x": [*curve.steps.tolist(), *curve.steps.tolist()[::-1]],
        "y": [*high, *low[::-1]],
        "fill": "toself",
        "fillcolor": _faint(look.colour),
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": label,
    }
    return [band, line]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _rounded(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Numbers with the digits that a picture shows; None where there is none."""
    return [
        float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
        for value in np.asarray(values, np.float64)
    ]


def _figure(data: Sequence[Figure], title: str, x: str, y: str) -> Figure:
    return {
        "data": list(data),
        "layout": {
            "title": {"text": title, "font": {"size": 14}},
            "xaxis": {"title": {"text": x}},
            "yaxis": {"title": {"text": y}},
            "showlegend": False,
            "margin": {"t": 40, "r": 10, "b": 60, "l": 70},
        },
    }


def _sensitivities(
    runs: Runs, finals: Sequence[np.ndarray], metric: str
) -> Iterator[Figure]:
    """The final metric over every swept number, and a map of each pair of them."""
    swept = [key for key in runs.keys if _is_number(runs, key)]
    for key in swept:
        yield _sensitivity(runs, finals, key, metric)
    for first, second in itertools.pairwise(swept):
        yield _heat_map(runs, finals, (first, second), metric)


def _is_number(runs: Runs, key: str) -> bool:
    values = [point.settings.get(key) for point in runs.points]
    numbers = all(type(value) in (int, float) for value in values)
    return numbers and len(set(values)) >= 2


def _sensitivity(
    runs: Runs, finals: Sequence[np.ndarray], key: str, metric: str
) -> Figure:
    """A line over the values of a key, for each setting of the others."""
    others = [k for k in runs.keys if k != key]
    lines: dict[str, dict[float, list[np.ndarray]]] = {}
    for point, values in zip(runs.points, finals, strict=True):
        label = _label([(k, point.settings.get(k)) for k in others])
        at = float(point.settings[key])
        lines.setdefault(label, {}).setdefault(at, []).append(values)
    data = []
    for number, (label, found) in enumerate(lines.items()):
        cells = {x: _cell(np.concatenate(found[x])) for x in sorted(found)}
        data.append(_with_errors(label, cells, _look(number)))
    figure = _figure(data, f"final {axis_label(metric)}", key, axis_label(metric))
    figure["layout"]["showlegend"] = len(data) > 1
    values = sorted({float(point.settings[key]) for point in runs.points})
    if values[0] > 0 and values[-1] / values[0] >= 10:
        figure["layout"]["xaxis"] |= {"type": "log", "dtick": 1}
    return figure


def _with_errors(label: str, cells: Mapping[float, Cell], look: Look) -> Figure:
    """A line with the interval of each point as its error bar."""
    above = [0.0 if c.high is None else c.high - c.value for c in cells.values()]
    below = [0.0 if c.low is None else c.value - c.low for c in cells.values()]
    return {
        "type": "scatter",
        "x": list(cells),
        "y": _rounded([cell.value for cell in cells.values()]),
        "name": label,
        "mode": "lines+markers",
        "line": {"color": look.colour, "dash": look.dash},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": _rounded(above),
            "arrayminus": _rounded(below),
        },
    }


def _heat_map(
    runs: Runs, finals: Sequence[np.ndarray], keys: tuple[str, str], metric: str
) -> Figure:
    """The interquartile mean over two swept numbers, over all other settings."""
    first, second = keys
    found: dict[tuple[float, float], list[np.ndarray]] = {}
    for point, values in zip(runs.points, finals, strict=True):
        place = (float(point.settings[first]), float(point.settings[second]))
        found.setdefault(place, []).append(values)
    xs, ys = (sorted({place[k] for place in found}) for k in (0, 1))
    cells = {place: float(iqm(np.concatenate(v))) for place, v in found.items()}
    rows = [_rounded([cells.get((x, y), np.nan) for x in xs]) for y in ys]
    heat = {
        "type": "heatmap",
        "x": [f"{x:g}" for x in xs],
        "y": [f"{y:g}" for y in ys],
        "z": rows,
        "colorscale": "Viridis",
        "reversescale": not higher_is_better(metric),
        "colorbar": {"title": {"text": axis_label(metric)}},
    }
    figure = _figure([heat], f"final {axis_label(metric)}", first, second)
    figure["layout"]["xaxis"]["type"] = figure["layout"]["yaxis"]["type"] = "category"
    return figure


# ----------------------------------------------------------------------------- status


def _status(runs: Runs) -> Iterator[tuple[str, ...]]:
    """Folder, state, seeds and notes of every point."""
    for point in runs.points:
        state = str(point.summary.get("status", "not done"))
        lost = point.summary.get("diverged")
        notes = [str(note) for note in point.summary.get("notes", ())]
        if isinstance(lost, dict) and lost:
            told = ", ".join(f"member {k} at step {at}" for k, at in lost.items())
            notes.insert(0, f"diverged: {told}")
        seeds = f"{point.seeds[0]} to {point.seeds[-1]}" if point.seeds else "-"
        yield str(point.directory), state, seeds, "; ".join(notes)
