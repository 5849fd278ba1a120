"""`rl-grads plot`: a real sweep drawn, and what is refused."""

import json
import math

import pytest
import yaml

from rl_grads.analysis import plots
from tests.results.made_runs import write_run

pytestmark = pytest.mark.slow

QUICK = (
    "experiment=random_walk",
    "training.total_steps=60",
    "tracking.interval=20",
    "evaluation.interval=20",
)


@pytest.fixture
def figure(monkeypatch):
    """The figure that was last saved."""
    saved = []

    def save(figure, stem):
        saved.append(figure)
        return original(figure, stem)

    original = plots.save
    monkeypatch.setattr(plots, "save", save)
    return lambda: saved[-1].axes[0]


def drawn(axes):
    """Label to points, of the lines that have one."""
    return {
        one.get_label(): [
            tuple(map(float, xy)) for xy in zip(*one.get_data(), strict=True)
        ]
        for one in axes.lines
        if not one.get_label().startswith("_")
    }


@pytest.mark.usefixtures("quick_compiler")
def test_a_real_sweep(train, command, home, figure):
    sweep = ("optimizer.learning_rate=0.1,0.5", "agent.td_gradient=semi,full")
    assert train(*QUICK, "-m", *sweep).status == 0
    (folder,) = (home / "sweeps" / "random_walk").iterdir()
    arguments = ("--x", "optimizer.learning_rate", "--lines", "agent.td_gradient")
    status, out, err = command("plot", "sensitivity", str(folder), *arguments)
    assert (status, err) == (0, "")
    files = [folder / "sensitivity.png", folder / "sensitivity.pdf"]
    assert out.splitlines()[-2:] == [str(path) for path in files]
    assert all(path.stat().st_size > 1000 for path in files)
    expected = {}
    for point in ("0", "1", "2", "3"):
        config = yaml.safe_load((folder / point / ".hydra/config.yaml").read_text())
        summary = json.loads((folder / point / "summary.json").read_text())
        label = f"agent.td_gradient={config['agent']['td_gradient']}"
        height = summary["evaluation/rmsve"]["mean"]["value"]
        place = (config["optimizer"]["learning_rate"], pytest.approx(height))
        expected.setdefault(label, []).append(place)
    assert drawn(figure()) == expected
    assert {len(places) for places in expected.values()} == {2}
    assert figure().get_xlabel() == "optimizer learning rate"
    assert figure().get_ylabel() == "RMSVE [reward]"

    assert command("plot", "curves", str(folder)).status == 0
    labels = [f"optimizer.learning_rate={r}" for r in (0.1, 0.1, 0.5, 0.5)]
    ends = ["semi", "full"] * 2
    assert list(drawn(figure())) == [
        f"agent.td_gradient={g}, {r}" for g, r in zip(ends, labels, strict=True)
    ]
    to = home / "new" / "one"
    argv = ("plot", "curves", str(folder / "0"), "--metric", "gradient/norm", "--log-y")
    assert command(*argv, "--to", str(to)).status == 0
    assert (home / "new" / "one.png").is_file() and (home / "new" / "one.pdf").is_file()
    assert len(figure().lines) == 3  # Two members and their interquartile mean.
    assert list(figure().lines[0].get_xdata()) == [20, 40, 60]
    assert (figure().get_ylabel(), figure().get_yscale()) == (
        "norm of the gradient",
        "log",
    )


# -------------------------------------------------------------------- made-up folders


def write_point(folder, rate, values, metric="evaluation/return", **more):
    """A finished point of a sweep, as training leaves it."""
    own = {"optimizer__learning_rate": rate, "training__flag": True} | more
    rows = {metric: [values]}
    seeds = range(own["seed"], own["seed"] + len(values)) if "seed" in own else None
    write_run(folder, rows, steps=(5,), seeds=seeds or range(len(values)), **own)


def write_sweep(folder, metric="evaluation/return"):
    write_point(folder / "0", 0.1, [1.0, 3.0], metric)
    write_point(folder / "2", 0.2, [math.nan, math.inf], metric, status="diverged")
    write_point(folder / "10", 0.3, [5.0, 5.0], metric)
    return folder


@pytest.fixture
def sweep(home):
    """A sweep of three learning rates, the second of which diverged."""
    return write_sweep(home / "sweeps" / "mine" / "today")


def test_a_diverged_point_stands_at_the_bad_end_of_the_metric(sweep, command, figure):
    argv = ("plot", "sensitivity", str(sweep), "--x", "optimizer.learning_rate")
    assert command(*argv).status == 0
    expected = [(0.1, 2.0), (0.2, 2.0), (0.3, 5.0)]  # Two values give no interval.
    assert drawn(figure()) == {"evaluation/return": expected}
    assert command(*argv, "--worst", "4", "--lines", "optimizer").status == 0
    expected = [(0.1, 4.0), (0.2, 4.0), (0.3, 5.0)]
    assert drawn(figure()) == {"optimizer=adam": expected}


@pytest.mark.parametrize("metric", ["evaluation/rmsve", "loss/mine", "mine"])
def test_a_diverged_point_stands_at_the_top_of_an_error(home, command, figure, metric):
    write_sweep(home / "sweep", metric)
    argv = ("plot", "sensitivity", "sweep", "--x", "optimizer.learning_rate")
    assert command(*argv, "--metric", metric).status == 0
    assert drawn(figure()) == {metric: [(0.1, 2.0), (0.2, 5.0), (0.3, 5.0)]}


def test_points_that_differ_in_their_seeds_are_one(sweep, command, figure):
    write_point(sweep / "11", 0.1, [8.0], seed=7)
    argv = ("plot", "sensitivity", str(sweep), "--x", "optimizer.learning_rate")
    assert command(*argv).status == 0
    assert drawn(figure())["evaluation/return"][0] == (0.1, 4.0)


def test_a_point_that_has_not_finished_is_named(sweep, command, figure):
    (sweep / "10" / "summary.json").unlink()
    argv = ("plot", "sensitivity", str(sweep), "--x", "optimizer.learning_rate")
    status, _, err = command(*argv)
    assert status == 0
    left_out = "sweeps/mine/today/10 has not finished, left out\n"
    assert err.startswith("rl-grads plot: ") and err.endswith(left_out)
    assert len(drawn(figure())["evaluation/return"]) == 2


def test_a_point_with_a_damaged_summary_is_left_out_and_named(sweep, command, figure):
    (sweep / "2" / "summary.json").write_text('{"status": ')
    status, _, err = command("plot", "sensitivity", str(sweep), *X)
    assert status == 0
    left_out = "sweeps/mine/today/2 has a damaged summary.json, left out\n"
    assert err.endswith(left_out)
    assert len(drawn(figure())["evaluation/return"]) == 2


X = ("--x", "optimizer.learning_rate")
REFUSED = {
    "no such run": (
        ("curves", "sweeps/mine/todya"),
        "sweeps/mine/todya: expected the folder of a run or sweep; did you mean "
        "'sweeps/mine/today'?",
    ),
    "no run in it": (
        ("curves", "empty"),
        "empty: expected a run or a sweep, with metrics.jsonl",
    ),
    "a metric": (
        ("curves", "sweeps/mine/today", "--metric", "evaluation/retrun"),
        "--metric=evaluation/retrun: expected a metric of sweeps/mine/today "
        "(evaluation/return); did you mean 'evaluation/return'?",
    ),
    "a metric of the summary": (
        ("sensitivity", "sweeps/mine/today", *X, "--metric", "wall_s"),
        "--metric=wall_s: expected a metric of sweeps/mine/today (evaluation/return)",
    ),
    "a key for x": (
        ("sensitivity", "sweeps/mine/today", "--x", "optimizer.learning_rte"),
        "--x=optimizer.learning_rte: expected a key of sweeps/mine/today/0; did you "
        "mean 'optimizer.learning_rate'?",
    ),
    "a key for lines": (
        ("sensitivity", "sweeps/mine/today", *X, "--lines", "agent.discuont"),
        "--lines=agent.discuont: expected a key of sweeps/mine/today/0; did you mean "
        "'agent.discount'?",
    ),
    "no number": (
        ("sensitivity", "sweeps/mine/today", "--x", "optimizer", "--lines", X[1]),
        "--x=optimizer: expected a key with numbers, sweeps/mine/today/0 has 'adam'",
    ),
    "a truth value": (
        ("sensitivity", "sweeps/mine/today", "--x", "training.flag", "--lines", X[1]),
        "--x=training.flag: expected a key with numbers, sweeps/mine/today/0 has True",
    ),
    "a key that is not shown": (
        ("sensitivity", "sweeps/mine/today", "--x", "agent.discount"),
        "sweeps/mine/today: points differ in optimizer.learning_rate as well; expected "
        "it in --lines",
    ),
    "no sweep": (
        ("sensitivity", "sweeps/mine/today/0", *X),
        "sweeps/mine/today/0: expected a sweep with two finished points "
        "(rl-grads train -m)",
    ),
    "a path": (
        ("curves", "sweeps/mine/today", "--to", "sweeps/mine/today/0/metrics.jsonl/a"),
        "--to=sweeps/mine/today/0/metrics.jsonl/a: expected a path that can be written "
        "(File exists)",
    ),
}


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_exits_2_with_one_message(case, command, home):
    (home / "empty").mkdir()
    argv, message = REFUSED[case]
    status, out, err = command("plot", *argv)
    assert (status, out, err) == (2, "", f"rl-grads plot: {message}\n")


def test_nothing_logged_yet(home, command):
    write_run(home / "run", {}, steps=())
    status, _, err = command("plot", "curves", "run")
    expected = "run: expected a run or a sweep, with metrics.jsonl"
    left_out = "left out 1 of 1 folders, with no rows yet: run"
    assert (status, err) == (2, f"rl-grads plot: {expected}; {left_out}\n")


def test_a_figure_must_be_named(command, capsys):
    for argv, word in (((), "FIGURE"), (("curve",), "'curves'"), (("curves",), "RUN")):
        with pytest.raises(SystemExit) as stopped:
            command("plot", *argv)
        assert stopped.value.code == 2
        assert word in capsys.readouterr().err


# ---------------------------------------------------------------------- learned numbers


def test_learned_numbers_have_a_panel_each(home, command, monkeypatch):
    rows = {
        "learned/agent.discount": [[0.9, 0.91]] * 2,
        "learned/optimizer.learning_rate": [[0.01] * 2, [0.02] * 2],
        "gradient/norm": [[1.0] * 2] * 2,
    }
    folder = write_run(home / "runs" / "mine", rows)
    saved = []
    original = plots.save
    monkeypatch.setattr(
        plots, "save", lambda *args: saved.append(args[0]) or original(*args)
    )
    status, out, err = command("plot", "learned", str(folder))
    assert (status, err) == (0, "")
    assert out.splitlines() == [str(folder / f"learned.{e}") for e in ("png", "pdf")]
    panels = saved[0].axes
    assert [axes.get_ylabel() for axes in panels] == [
        "agent.discount",
        "optimizer.learning_rate",
    ]
    assert [float(y) for y in panels[0].lines[-1].get_ydata()] == [0.905, 0.905]
    assert [float(y) for y in panels[1].lines[0].get_ydata()] == [0.01, 0.02]


def test_a_run_that_learned_nothing_is_refused(sweep, command):
    status, _, err = command("plot", "learned", str(sweep / "0"))
    assert status == 2
    assert err.endswith("expected a run with meta.learn=[...]\n")
    status, _, err = command("plot", "learned", str(sweep))
    assert status == 2
    assert f"expected one run, such as {sweep / '0'}" in err
