"""The pictures of the pages, each from the few numbers that are kept of it.

    python -m scripts.pictures                 draws all of docs/images/*.png anew
    python -m scripts.pictures baird           draws one
    python -m scripts.pictures baird --measure runs what its page says first, and keeps
                                               what is drawn of it in docs/images/data

They are drawn by the functions that the commands on the pages draw with, so that a
change of the house's look reaches all of them without a run.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import (
    baird,
    blind_cliffwalk,
    meta_few_shot_td,
    meta_navigation_2d,
    meta_self_tuning,
    meta_sinusoid,
    meta_step_size,
    minatar_breakout,
    random_walk_19,
)
from rl_grads import atomic, results
from rl_grads.analysis import examples, plots
from rl_grads.analysis.plots import Line, Point
from rl_grads.cli import anatomy, few_shot, figures, plot
from rl_grads.meta.few_shot import Budget
from rl_grads.tracking.metrics import axis_label
from rl_grads.training import backend, devices
from rl_grads.typing import Document, Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = pathlib.Path(__file__).resolve().parents[1] / "docs" / "images"
DATA = IMAGES / "data"
_DIGITS = 4  # Of a number that is kept: more than a picture shows.


class Picture(NamedTuple):
    """How a picture is come by.

    Attributes:
        measure: Runs what its page says, and gives what is drawn of it.
        draw: Draws that.
    """

    measure: Callable[[], Document]
    draw: Callable[[Document], "Figure"]


# ------------------------------------------------------------------------ what is kept


def short(value: Json) -> Json:
    """A document with its numbers to four digits, nan as null.

    Example:
        >>> short({"a": np.array([1.23456, np.nan, 3.0])})
        {'a': [1.235, None, 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): short(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [short(inner) for inner in value]
    if hasattr(value, "tolist"):
        return short(value.tolist())
    return _short_number(value) if isinstance(value, float) else value


def _short_number(value: float) -> float | int | None:
    if value != value:
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _records(given: Sequence[Line] | Sequence[Point]) -> list[Document]:
    return [one._asdict() for one in given]


def _lines(kept: Sequence[Document]) -> list[Line]:
    return [Line(**{k: _array(v) for k, v in one.items()}) for one in kept]


def _points(kept: Sequence[Document]) -> list[Point]:
    return [Point(**{k: _array(v) for k, v in one.items()}) for one in kept]


def _array(value: Json) -> Json:
    """Lists as arrays, null in them as nan; the rest as it is."""
    return np.array(value, float) if isinstance(value, list) else value


def _command(folder: str, *arguments: str) -> None:
    """`rl-grads` in a folder of its own."""
    line = [sys.executable, "-m", "rl_grads.cli.main", *arguments]
    subprocess.run(line, cwd=folder, check=True)


# ------------------------------------------------------------------ of the command line

_RETURN = "evaluation/return"
_OVER = plot.Over("optimizer.learning_rate", "evaluation/rmspbe", worst=2.5)
_GRADIENTS = "semi,full,gtd2,tdc,tdrc"
_SIZES = ",".join(str(2.0**k) for k in range(-7, 2))


def _measure_train() -> Document:
    with tempfile.TemporaryDirectory() as folder:
        _command(folder, "train", "run.id=one")
        runs = results.load(pathlib.Path(folder, "runs", "one"))
        (found,) = runs.curves([_RETURN])
    return found[_RETURN]._asdict()


def _draw_train(kept: Document) -> "Figure":
    steps, values = _array(kept["steps"]), _array(kept["values"])
    return plots.curves([plots.Series("", steps, values)], axis_label(_RETURN))


def _measure_boyan() -> Document:
    swept = (f"agent.td_gradient={_GRADIENTS}", f"optimizer.learning_rate={_SIZES}")
    with tempfile.TemporaryDirectory() as folder:
        _command(folder, "train", "-m", "experiment=boyan", *swept, "run.id=one")
        runs = results.load(pathlib.Path(folder, "sweeps", "one"))
        points = plot.swept(runs, _OVER, "agent.td_gradient")
    return {"points": _records(points)}


def _draw_boyan(kept: Document) -> "Figure":
    return plot.over_setting(_points(kept["points"]), _OVER)


_ANATOMY = (
    "seeds=2",
    "run.id=one",
    "training.total_steps=2500",
    "tracking.interval=250",
    "checkpoint.interval=1000",
)


def _measure_anatomy() -> Document:
    with tempfile.TemporaryDirectory() as folder:
        _command(folder, "train", *_ANATOMY)
        which = ("--step", "2250", "--member", "1", "--to", "found")
        _command(folder, "anatomy", "runs/one", *which)
        found = json.loads(pathlib.Path(folder, "found.json").read_text())
    return {
        **{key: found[key] for key in ("step", "member", "update")},
        "top": [one["example"] for one in found["top"]],
        "shares": [one["shares"] for one in found["top"]],
        "norms": found["gradient_norms"],
        "td_errors": found["td_errors"],
        "cosines": [  # They are symmetric.
            np.round(_array(row[: at + 1]), 2)
            for at, row in enumerate(found["cosines"])
        ],
    }


def _draw_anatomy(kept: Document) -> "Figure":
    norms, top = _array(kept["norms"]), kept["top"]
    shares = {layer: np.full(len(norms), np.nan) for layer in kept["shares"][0]}
    for place, one in zip(top, kept["shares"], strict=True):
        for layer, share in one.items():
            shares[layer][place] = share
    cosines = np.empty((len(norms), len(norms)))
    for at, row in enumerate(kept["cosines"]):
        cosines[at, : at + 1] = cosines[: at + 1, at] = _array(row)
    given = examples.Gradients(norms, _array(kept["td_errors"]), shares, cosines)
    title = anatomy.name_update(
        kept["step"], kept["member"], kept["update"], len(norms)
    )
    return examples.figure(given, top, title)


# ------------------------------------------------------------------- of the experiments


def _configured(experiment: str, *changes: str) -> "figures.Config":
    config = figures.configure(experiment, changes)
    backend.start(config)
    return config


def _measure_baird() -> Document:
    config = _configured("baird")
    return {"n": config.seeds, "lines": _records(baird.measure(config)["baird"])}


def _draw_baird(kept: Document) -> "Figure":
    return baird.figure("baird", _lines(kept["lines"]), kept["n"])


def _measure_random_walk() -> Document:
    config = _configured("random_walk_19")
    found = random_walk_19.measure(config)
    return {
        "episodes": config.training.total_episodes,
        "n": config.seeds,
        "errors": found,
    }


def _draw_random_walk(kept: Document) -> "Figure":
    found = {label: _array(errors) for label, errors in kept["errors"].items()}
    return random_walk_19.figure(found, kept["episodes"], kept["n"])


def _measure_cliffwalk() -> Document:
    states, seeds = blind_cliffwalk.STATES, blind_cliffwalk.SEEDS
    found = blind_cliffwalk.measure(states, seeds)
    return {"n": seeds, "lines": _records(blind_cliffwalk.lines(states, found))}


def _draw_cliffwalk(kept: Document) -> "Figure":
    return blind_cliffwalk.figure(_lines(kept["lines"]), kept["n"])


def _measure_minatar() -> Document:
    changes = ["training.total_steps=80_000", "evaluation.interval=8_000"]
    arguments = argparse.Namespace(tuning=2, seeds=10, overrides=changes)
    _configured("minatar_breakout", *changes)
    arms = {
        name: minatar_breakout.run(replay, arguments)
        for name, replay in minatar_breakout.ARMS.items()
    }
    return {"n": arguments.seeds, "lines": _records(minatar_breakout.lines(arms))}


def _draw_minatar(kept: Document) -> "Figure":
    return minatar_breakout.figure(_lines(kept["lines"]), kept["n"])


def _few_shot(errors: Mapping[str, np.ndarray]) -> Document:
    tasks = len(next(iter(errors.values())))
    return {"n": tasks, "lines": _records(few_shot.lines(errors))}


def _draw_few_shot(label: str, kept: Document) -> "Figure":
    return few_shot.figure(_lines(kept["lines"]), kept["n"], label)


def _measure_sinusoid() -> Document:
    return _few_shot(meta_sinusoid.measure(meta_sinusoid.UPDATES, meta_sinusoid.SEED))


def _measure_few_shot_td() -> Document:
    study, seed = meta_few_shot_td.meta_few_shot_td, meta_few_shot_td.SEED
    budget = Budget(meta_few_shot_td.UPDATES)
    found = study.measure(study.LEARNERS["MLP"](), budget, seed)
    return _few_shot(meta_few_shot_td.labelled(found))


def _measure_step_size(name: str) -> Document:
    plan = meta_step_size.PLANS[name]
    found = meta_step_size.measure(plan, meta_step_size.SEEDS)
    return {"kept": _records(found.constant), "moved": _records(found.moved)}


def _draw_step_size(name: str, kept: Document) -> "Figure":
    found = meta_step_size.Found(_points(kept["kept"]), _points(kept["moved"]))
    return meta_step_size.figure(meta_step_size.PLANS[name], found)


def _measure_self_tuning() -> Document:
    config, seeds = _configured("meta_self_tuning"), meta_self_tuning.FRESH
    tuned = meta_self_tuning.split(meta_self_tuning.TUNING, seeds)
    columns = meta_self_tuning.columns(meta_self_tuning.measure(config, tuned))
    return {
        "n": seeds,
        "columns": [
            {"start": c.start, "returns": _records(c.returns)}
            | {"rates": _records(c.rates)}
            for c in columns
        ],
    }


def _draw_self_tuning(kept: Document) -> "Figure":
    columns = [
        meta_self_tuning.Column(c["start"], _lines(c["returns"]), _lines(c["rates"]))
        for c in kept["columns"]
    ]
    return meta_self_tuning.figure(columns, kept["n"])


def _measure_navigation() -> Document:
    study = meta_navigation_2d
    devices.use_cores(min(devices.available_cores(), study.SEEDS))
    learned = study.learn(study.UPDATES, study.SEEDS)
    goals = study.navigation_2d.published_goals()
    trial = study.measure(learned, goals)["learned, seed 0"]
    return study.shown(learned, trial, goals)._asdict()


def _draw_navigation(kept: Document) -> "Figure":
    shown = {name: _array(value) for name, value in kept.items()}
    return meta_navigation_2d.figure(meta_navigation_2d.Shown(**shown))


# ------------------------------------------------------------------------- all of them

PICTURES = {
    "train": Picture(_measure_train, _draw_train),
    "anatomy": Picture(_measure_anatomy, _draw_anatomy),
    "baird": Picture(_measure_baird, _draw_baird),
    "boyan_sensitivity": Picture(_measure_boyan, _draw_boyan),
    "random_walk_19": Picture(_measure_random_walk, _draw_random_walk),
    "blind_cliffwalk": Picture(_measure_cliffwalk, _draw_cliffwalk),
    "minatar_breakout": Picture(_measure_minatar, _draw_minatar),
    "meta_sinusoid": Picture(
        _measure_sinusoid, functools.partial(_draw_few_shot, meta_sinusoid.LABEL)
    ),
    "meta_few_shot_td_mlp": Picture(
        _measure_few_shot_td, functools.partial(_draw_few_shot, meta_few_shot_td.LABEL)
    ),
    **{
        f"meta_step_size_{name}": Picture(
            functools.partial(_measure_step_size, name),
            functools.partial(_draw_step_size, name),
        )
        for name in meta_step_size.PLANS
    },
    "meta_self_tuning": Picture(_measure_self_tuning, _draw_self_tuning),
    "meta_navigation_2d": Picture(_measure_navigation, _draw_navigation),
}


def read(name: str) -> Document:
    """What is kept of a picture."""
    return json.loads((DATA / f"{name}.json").read_text())


def keep(name: str, found: Document) -> None:
    """Keep what is drawn of a picture."""
    DATA.mkdir(exist_ok=True)
    text = json.dumps(short(found), separators=(",", ":"), ensure_ascii=False)
    atomic.write_bytes(DATA / f"{name}.json", f"{text}\n".encode())


def figure(name: str) -> "Figure":
    """A picture of what is kept of it."""
    return PICTURES[name].draw(read(name))


def main(argv: Sequence[str] | None = None) -> None:
    """Draw pictures, and measure them first where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        if name not in PICTURES:
            parser.error(f"{name!r}: expected one of {', '.join(PICTURES)}")
    for name in arguments.names or PICTURES:
        if arguments.measure:
            keep(name, PICTURES[name].measure())
        print(*plots.save(figure(name), IMAGES / f"{name}.png"))


if __name__ == "__main__":
    main()
