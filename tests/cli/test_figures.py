"""Modules of `experiments/` that draw a textbook's figure, on little data."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from rl_grads.analysis import plots
from rl_grads.cli import figures
from rl_grads.config import ConfigError

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def drawn(home, monkeypatch):
    """Run a module as `python -m` would, and give the axes of its figure."""
    saved = {}
    original = plots.save

    def save(figure, stem):
        saved[stem.name] = figure.axes[0]
        return original(figure, stem)

    def run(name, *argv):
        path = EXPERIMENTS / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"experiments_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert figures.main(name, module.__doc__, module.draw, argv) == 0
        written = {path.name for path in (home / "figures").iterdir()}
        assert written == {f"{stem}.{end}" for stem in saved for end in ("png", "pdf")}
        return saved

    x64 = jax.config.jax_enable_x64
    monkeypatch.setattr(plots, "save", save)
    jax.config.update("jax_disable_most_optimizations", True)
    yield run
    jax.config.update("jax_disable_most_optimizations", False)
    jax.config.update("jax_enable_x64", x64)


def labels(axes):
    return [x.get_label() for x in axes.lines if not x.get_label().startswith("_")]


def heights(axes, label):
    (line,) = (one for one in axes.lines if one.get_label() == label)
    return np.asarray(line.get_ydata(), float)


def test_nineteen_states_by_n(drawn):
    (axes,) = drawn("random_walk_19", "seeds=4").values()
    assert labels(axes) == [f"n = {2**k}" for k in range(10)]
    assert heights(axes, "n = 4").shape == (11,)
    assert heights(axes, "n = 4").min() < 0.4 < heights(axes, "n = 512")[1]


def test_nineteen_states_by_lambda(drawn):
    changes = ("agent=td_lambda", "agent.trace=true_online")
    found = drawn("random_walk_19", "seeds=4", "training.total_episodes=3", *changes)
    (axes,) = found.values()
    assert list(found) == ["random_walk_19_td_lambda"]
    assert labels(axes)[:3] == ["lambda = 0", "lambda = 0.4", "lambda = 0.8"]
    start = np.sqrt(np.mean((np.arange(-9, 10) / 10) ** 2))
    assert heights(axes, "lambda = 0.8")[0] == pytest.approx(start, rel=1e-6)


def test_five_states(drawn):
    (left,) = drawn("random_walk", "seeds=4", "training.total_episodes=20").values()
    assert labels(left) == ["true values", "after 0", "after 1", "after 10"]
    np.testing.assert_allclose(heights(left, "true values"), np.arange(1, 6) / 6)
    # The first episode moves one end alone, by half of its error.
    first = heights(left, "after 1")
    moved = np.flatnonzero(np.abs(first - 0.5) > 1e-6)
    assert len(moved) == 1 and abs(first[moved[0]] - 0.5) == pytest.approx(0.05)
    assert moved[0] in (0, 4)
    axes = left.figure.axes[1]
    assert labels(axes)[2:4] == ["TD 0.15", "MC 0.01"]
    assert heights(axes, "TD 0.15").shape == (20,)


SHORT = (
    "seeds=2",
    "training.total_steps=60",
    "tracking.interval=30",
    "evaluation.interval=30",
)


@pytest.mark.slow
def test_figures_of_trained_agents(drawn):
    axes = drawn("baird", *SHORT)["baird"]
    assert labels(axes)[:3] == ["semi", "full", "residual"]
    assert heights(axes, "semi").shape == (2,)
    axes = drawn("boyan", *SHORT)["boyan"]
    assert labels(axes) == ["semi", "full", "residual", "gtd2", "tdc", "tdrc"]
    assert heights(axes, "tdc").shape == (10,)


@pytest.mark.slow
def test_the_a_split_shows_what_the_naive_residual_misses(drawn):
    axes = drawn("a_split", "seeds=4", "training.total_steps=6000")["a_split"]
    values = {label: heights(axes, label) for label in labels(axes)}
    for name in ("semi", "residual"):
        np.testing.assert_allclose(values[name], values["true values"], atol=0.05)
    np.testing.assert_allclose(values["full"], [0.5, 0.75, 0.25], atol=0.05)


@pytest.mark.slow
def test_a_thousand_states(drawn):
    found = drawn("thousand_state", *SHORT)
    axes = found["thousand_state"]
    assert labels(axes)[0] == "true values"
    assert heights(axes, "TD(0)").shape == (1000,)
    n_step = found["thousand_state_n_step"]
    assert labels(n_step) == [f"n = {2**k}" for k in range(10)]
    start = np.sqrt(np.mean(heights(axes, "true values") ** 2))
    assert heights(n_step, "n = 8")[0] == pytest.approx(start, rel=1e-5)
    assert heights(n_step, "n = 8").min() < 0.35 < heights(n_step, "n = 512")[1]
    visits = heights(axes.figure.axes[1], "visits")
    assert visits.sum() == pytest.approx(1.0) and 480 < visits.argmax() < 520
    steps = np.unique(heights(axes, "TD(0), in theory").round(6))
    assert len(steps) == 10


def test_bad_input_exits_2(home, capsys):
    assert figures.main("random_walk", "usage", dict, ["seedz=3"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("python -m experiments.random_walk: seedz=3: expected a key")
    assert err.endswith("did you mean 'seed'?\n")
    assert not (home / "figures").exists()


def test_help_is_the_modules_own(home, capsys):
    assert figures.main("random_walk", "how to", dict, ["--help"]) == 0
    assert capsys.readouterr().out == "how to\n"


def test_a_config_is_that_of_the_experiment():
    config = figures.configure("random_walk_19", ["seeds=3", "replay=null"])
    assert (config.env.id, config.seeds) == ("chain/random_walk_19", 3)
    assert config.agent.n_step == 4
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate=-1"):
        figures.configure("random_walk_19", ["optimizer.learning_rate=-1"])


def test_the_study_of_replay(home, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS.parent))
    module = importlib.import_module("experiments.minatar_breakout")
    monkeypatch.setattr(module, "RATES", (1e-4, 1e-3))
    tiny = (
        "training.total_steps=400",
        "training.warmup_steps=100",
        "tracking.interval=200",
        "evaluation.interval=200",
        "evaluation.episodes=2",
        "diagnostics.examples=16",
        "network.hidden=[8]",
    )
    module.main(["study.png", "--tuning", "1", "--seeds", "3", *tiny])
    learnt, variances = capsys.readouterr().out.strip().split("\n\n")
    rows = [row.strip("| ").split(" | ") for row in learnt.splitlines()]
    assert [row[0] for row in rows[2:]] == ["uniform", "PER", "gradient norm"]
    assert {row[1] for row in rows[2:]} <= {"0.0001", "0.001"}
    named = {row.split(" | ")[0].strip("| "): row for row in variances.splitlines()}
    assert {"gradient_norm", "own", "stored", "preconditioned/own"} <= set(named)
    # Uniform replay stores no priorities. No fixed weights beat the gradient norm.
    assert named["stored"].startswith("| stored |  |")
    least = [float(x) for x in named["gradient_norm"].strip("| ").split(" | ")[1:]]
    other = [float(x) for x in named["td_error"].strip("| ").split(" | ")[1:]]
    assert all(a <= b for a, b in zip(least, other, strict=True))
    assert (home / "study.png").stat().st_size > 10_000
