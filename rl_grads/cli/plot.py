"""`rl-grads plot`: figures of a run or a sweep, as PNG and as PDF."""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rl_grads.cli import errors, results
from rl_grads.cli.results import Point
from rl_grads.config import ConfigError
from rl_grads.training.metrics import axis_label, higher_is_better

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Keys in which points may differ and still be one: their members are pooled.
_POOLED = ("seed", "seeds")


def main(argv: Sequence[str]) -> int:
    """Draw one figure and say where it lies.

    Args:
        argv: Arguments after `rl-grads plot`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    options = _parser().parse_args(list(argv))
    return errors.guard("rl-grads plot", argv, lambda _: _main(options))


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


def _curves(options: argparse.Namespace) -> "Figure":
    """One run with all its members, or a line for each point of a sweep."""
    from rl_grads.analysis import plots

    found = results.points(options.run)
    logged = [results.logged(point) for point in found]
    known = list(dict.fromkeys(name for rows in logged for name in rows.metrics))
    metric = results.choose_metric(options.metric, known, options.run)
    keys = _differing(found)
    series = [
        plots.Series(_label(point, keys), rows.steps, rows.metrics[metric])
        for point, rows in zip(found, logged, strict=True)
        if metric in rows.metrics
    ]
    return plots.curves(series, axis_label(metric), log_y=options.log_y)


def _learned(options: argparse.Namespace) -> "Figure":
    """A panel for each learned number, on a run of its own."""
    from rl_grads.analysis import plots

    found = results.points(options.run)
    if len(found) > 1:
        expected = f"expected one run, such as {found[0].directory}"
        raise ConfigError(f"{options.run}: {expected}")
    rows = results.logged(found[0])
    names = [name for name in rows.metrics if name.startswith("learned/")]
    if not names:
        raise ConfigError(f"{options.run}: expected a run with meta.learn=[...]")
    series = [
        plots.Series(name.removeprefix("learned/"), rows.steps, rows.metrics[name])
        for name in names
    ]
    return plots.panels(series)


def _sensitivity(options: argparse.Namespace) -> "Figure":
    """The final metric of a sweep's points over one of their settings."""
    from rl_grads.analysis import plots

    found = _finished(results.points(options.run), options.run)
    known = [n for n in found[0].metrics() if all(n in p.metrics() for p in found)]
    metric = results.choose_metric(options.metric, known, options.run)
    _check_explained(found, options)
    pooled: dict[tuple[float, str], list[Point]] = {}
    for point in found:
        line = "" if options.lines is None else _line(point, options.lines)
        pooled.setdefault((_number(point, options.x), line), []).append(point)
    plotted = [
        plots.Point(
            x=x,
            line=line or metric,
            values=[v for point in alike for v in point.final(metric)],
            diverged=any(point.diverged for point in alike),
        )
        for (x, line), alike in pooled.items()
    ]
    x = plots.Axis(options.x.replace(".", " ").replace("_", " "))
    y = plots.Axis(axis_label(metric), options.log_y)
    higher = higher_is_better(metric) is True
    return plots.sensitivity(
        plotted, x, y, worst=options.worst, higher_is_better=higher
    )


def _line(point: Point, key: str) -> str:
    return f"{key}={results.setting(point, '--lines', key)}"


def _number(point: Point, key: str) -> float:
    value = results.setting(point, "--x", key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        expected = f"expected a key with numbers, {point.directory} has {value!r}"
        raise ConfigError(f"--x={key}: {expected}")
    return float(value)


def _finished(found: Sequence[Point], run: pathlib.Path) -> list[Point]:
    """The points with a summary; says which have none, or a damaged one."""
    finished = [point for point in found if point.metrics()]
    for point in found:
        if not point.metrics():
            exists = (point.directory / "summary.json").exists()
            reason = "has a damaged summary.json" if exists else "has not finished"
            told = f"rl-grads plot: {point.directory} {reason}, left out"
            print(told, file=sys.stderr)
    if len(finished) < 2:
        expected = "expected a sweep with two finished points (rl-grads train -m)"
        raise ConfigError(f"{run}: {expected}")
    return finished


def _check_explained(found: Sequence[Point], options: argparse.Namespace) -> None:
    """Refuse points that differ in a key which the figure does not show."""
    shown = [options.x] if options.lines is None else [options.x, options.lines]
    for option, key in zip(("--x", "--lines"), shown, strict=False):
        results.setting(found[0], option, key)
    for key in _differing(found):
        if key not in shown:
            raise ConfigError(
                f"{options.run}: points differ in {key} as well; expected it in --lines"
            )


def _differing(found: Sequence[Point]) -> list[str]:
    """Keys in which points differ, but for their seeds, and those below such a key."""
    keys = dict.fromkeys(key for point in found for key in point.settings)
    values = {key: {str(p.settings.get(key)) for p in found} for key in keys}
    apart = [key for key in keys if len(values[key]) > 1 and key not in _POOLED]
    return [k for k in apart if not any(k.startswith(f"{other}.") for other in apart)]


def _label(point: Point, keys: Sequence[str]) -> str:
    told = [f"{key}={point.settings[key]}" for key in keys if key in point.settings]
    return ", ".join(told) or point.directory.name
