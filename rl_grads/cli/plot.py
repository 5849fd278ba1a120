"""`rl-grads plot`: figures of a run or a sweep, as PNG and as PDF."""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rl_grads.cli import errors
from rl_grads.config import ConfigError
from rl_grads.results.points import setting
from rl_grads.tracking.metrics import axis_label, higher_is_better

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from rl_grads.analysis import plots
    from rl_grads.results import Point, Runs

COMMAND = "rl-grads plot"


def main(argv: Sequence[str]) -> int:
    """Draw one figure and say where it lies.

    Args:
        argv: Arguments after `rl-grads plot`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    options = _parser().parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options))


def _main(options: argparse.Namespace) -> None:
    from rl_grads.analysis import plots

    figure = options.draw(options)
    stem = options.to or options.run / options.figure
    try:
        written = plots.save(figure, stem)
    except OSError as error:
        expected = f"expected a path that can be written ({error.strerror})"
        raise ConfigError(f"--to={stem}: {expected}") from error
    print("\n".join(str(path) for path in written))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rl-grads plot", description="Draw a figure of a run or a sweep."
    )
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    curves = figures.add_parser(
        "curves", help="a metric over training; of a sweep, a line for each point"
    )
    curves.set_defaults(draw=_curves)
    learned = figures.add_parser(
        "learned", help="the numbers that a run has learned (meta.learn), over training"
    )
    learned.set_defaults(draw=_learned)
    sensitivity = figures.add_parser(
        "sensitivity", help="the final metric over a key that was swept"
    )
    sensitivity.set_defaults(draw=_sensitivity)
    sensitivity.add_argument("--x", required=True, metavar="KEY", help="swept number")
    sensitivity.add_argument("--lines", metavar="KEY", help="key with a line per value")
    sensitivity.add_argument(
        "--worst",
        type=float,
        metavar="VALUE",
        help="worst value shown, the lowest where higher is better; points beyond it, "
        "and those that diverged, stand on it (default: the worst of all intervals)",
    )
    for command in (curves, learned, sensitivity):
        _files(command)
    for command in (curves, sensitivity):
        _common(command)
    return parser


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=pathlib.Path, metavar="RUN", help="folder of the run or sweep"
    )
    parser.add_argument(
        "--to",
        type=pathlib.Path,
        metavar="STEM",
        help="write STEM.png and STEM.pdf; x.pdf writes that alone (default: in RUN)",
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric", help="default: evaluation/return or evaluation/rmsve"
    )
    parser.add_argument(
        "--log-y", action="store_true", help="logarithmic vertical scale"
    )


# ----------------------------------------------------------------------------- figures


def _load(options: argparse.Namespace) -> "Runs":
    from rl_grads import results

    return results.load(options.run, tell=_tell)


def _tell(line: str) -> None:
    print(f"{COMMAND}: {line}", file=sys.stderr)


def _curves(options: argparse.Namespace) -> "Figure":
    """One run with all its members, or a line for each point of a sweep."""
    from rl_grads.analysis import plots

    runs = _load(options)
    metric = runs.metric(options.metric)
    curves = runs.curves([metric])
    series = [
        plots.Series(_label(point, runs.keys), *found[metric])
        for point, found in zip(runs.points, curves, strict=True)
        if metric in found
    ]
    if not series:
        raise ConfigError(f"--metric={metric}: expected one with a value")
    return plots.curves(series, axis_label(metric), log_y=options.log_y)


def _learned(options: argparse.Namespace) -> "Figure":
    """A panel for each learned number, on a run of its own."""
    from rl_grads.analysis import plots

    runs = _load(options)
    if len(runs.points) > 1:
        expected = f"expected one run, such as {runs.points[0].directory}"
        raise ConfigError(f"{options.run}: {expected}")
    names = [name for name in runs.metrics() if name.startswith("learned/")]
    if not names:
        raise ConfigError(f"{options.run}: expected a run with meta.learn=[...]")
    (found,) = runs.curves(names)
    series = [
        plots.Series(name.removeprefix("learned/"), *curve)
        for name, curve in found.items()
    ]
    return plots.panels(series)


class _Final(NamedTuple):
    """A point that has finished, and its final values, `[members]`."""

    point: "Point"
    values: "np.ndarray"


def _sensitivity(options: argparse.Namespace) -> "Figure":
    """The final metric of a sweep's points over one of their settings."""
    runs = _load(options)
    metric = runs.metric(options.metric)
    found = _finished(runs, metric)
    _check_explained(runs, options)
    asked = Over(options.x, metric, options.log_y, options.worst)
    return over_setting(_swept(found, asked, options.lines), asked)


class Over(NamedTuple):
    """What a sensitivity is drawn over.

    Attributes:
        key: The setting that was swept.
        metric: The final metric.
        log_y: Whether its scale is logarithmic.
        worst: The worst value shown; None for the worst of all intervals.
    """

    key: str
    metric: str
    log_y: bool = False
    worst: float | None = None


def over_setting(points: "Sequence[plots.Point]", asked: Over) -> "Figure":
    """The figure of a sweep's points, its axes named after the key and the metric.

    Args:
        points: Of the sweep.
        asked: What is drawn.
    """
    from rl_grads.analysis import plots

    x = plots.Axis(asked.key.replace(".", " ").replace("_", " "))
    y = plots.Axis(axis_label(asked.metric), asked.log_y)
    higher = higher_is_better(asked.metric) is True
    return plots.sensitivity(points, x, y, worst=asked.worst, higher_is_better=higher)


def swept(runs: "Runs", asked: Over, lines: str) -> "list[plots.Point]":
    """The points of a sweep that have finished, those that differ in seeds pooled.

    Args:
        runs: The sweep.
        asked: What is drawn.
        lines: The key that has a line for each value.
    """
    return _swept(_finished(runs, asked.metric), asked, lines)


def _swept(
    found: Sequence[_Final], asked: Over, lines: str | None
) -> "list[plots.Point]":
    from rl_grads.analysis import plots

    pooled: dict[tuple[float, str], list[_Final]] = {}
    for final in found:
        line = "" if lines is None else _line(final.point, lines)
        pooled.setdefault((_number(final.point, asked.key), line), []).append(final)
    return [
        plots.Point(
            x=x,
            line=line or asked.metric,
            values=[v for final in alike for v in final.values],
            diverged=any(final.point.diverged for final in alike),
        )
        for (x, line), alike in pooled.items()
    ]


def _line(point: "Point", key: str) -> str:
    return f"{key}={setting(point, '--lines', key)}"


def _number(point: "Point", key: str) -> float:
    value = setting(point, "--x", key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        expected = f"expected a key with numbers, {point.directory} has {value!r}"
        raise ConfigError(f"--x={key}: {expected}")
    return float(value)


def _finished(runs: "Runs", metric: str) -> list[_Final]:
    """The points with a summary; says which have none, or a damaged one."""
    values = runs.final_values(metric)
    finals = [_Final(*both) for both in zip(runs.points, values, strict=True)]
    for point in runs.points:
        if not point.has_ended:
            exists = (point.directory / "summary.json").exists()
            reason = "has a damaged summary.json" if exists else "has not finished"
            _tell(f"{point.directory} {reason}, left out")
    finished = [final for final in finals if final.point.has_ended]
    if len(finished) < 2:
        expected = "expected a sweep with two finished points (rl-grads train -m)"
        raise ConfigError(f"{runs.name}: {expected}")
    return finished


def _check_explained(runs: "Runs", options: argparse.Namespace) -> None:
    """Refuse points that differ in a key which the figure does not show."""
    shown = [options.x] if options.lines is None else [options.x, options.lines]
    for option, key in zip(("--x", "--lines"), shown, strict=False):
        setting(runs.points[0], option, key)
    for key in runs.keys:
        if key not in shown:
            raise ConfigError(
                f"{options.run}: points differ in {key} as well; expected it in --lines"
            )


def _label(point: "Point", keys: Sequence[str]) -> str:
    told = [f"{key}={point.settings[key]}" for key in keys if key in point.settings]
    return ", ".join(told) or point.directory.name
