"""Runs read together: what is found, what is left out, and the tables of it."""

import json
import math

import numpy as np
import pytest

import rl_grads as rg
from rl_grads import results
from rl_grads.config import ConfigError
from tests.results.made_runs import write_run


def names(runs, top):
    return [str(point.directory.relative_to(top)) for point in runs.points]


@pytest.fixture
def sweep(tmp_path):
    """Two rates and two agents; the last point has another metric."""
    top = tmp_path / "sweeps" / "mine" / "today"
    for number, (rate, agent) in enumerate([(0.1, "a"), (0.1, "b"), (0.2, "a")]):
        write_run(top / str(number), optimizer__learning_rate=rate, agent=agent)
    rows = {"own": [[math.nan] * 2, [math.inf, 7.0]]}
    write_run(top / "10", rows, optimizer__learning_rate=0.2, agent="b")
    (top / "population-0" / "checkpoints" / "5").mkdir(parents=True)
    (top / "population-0" / "run.json").write_text("{}")
    return top


def test_the_frame_of_a_sweep(sweep):
    frame = rg.results.load(sweep).frame()
    assert list(frame.columns) == [
        "run",
        "agent",
        "optimizer.learning_rate",
        "step",
        "seed",
        "evaluation/return",
        "own",
    ]
    assert len(frame) == 16
    assert frame["step"].tolist() == [10, 10, 20, 20] * 4
    assert frame["seed"].tolist() == [0, 1] * 8
    assert frame["run"].astype(str).unique().tolist() == [
        str(sweep / name) for name in ("0", "1", "2", "10")
    ]
    assert frame["optimizer.learning_rate"].tolist() == [0.1] * 8 + [0.2] * 8
    assert frame["evaluation/return"][:4].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert frame["evaluation/return"][12:].isna().all()
    assert frame["own"][14:].tolist() == [math.inf, 7.0]
    grouped = frame.groupby("agent")["evaluation/return"].mean()
    assert grouped.to_dict() == {"a": 2.5, "b": 2.5}


def test_finals_are_a_row_for_each_point_and_seed(sweep):
    finals = results.load(sweep).finals()
    assert len(finals) == 8
    assert finals["step"].tolist() == [20] * 8
    assert finals["evaluation/return"].tolist()[:6] == [3.0, 4.0] * 3
    assert finals["own"].tolist()[6:] == [math.inf, 7.0]
    assert list(results.load(sweep).finals(["own"]).columns)[-2:] == ["seed", "own"]


def test_the_last_measured_value_is_the_final_one(tmp_path):
    rows = {"a": [[1.0, 2.0], [math.nan, 5.0], [math.nan, math.nan]]}
    write_run(tmp_path / "run", rows, steps=(10, 20, 30))
    finals = results.load(tmp_path / "run").finals()
    assert finals["a"].tolist() == [1.0, 5.0]
    assert finals["step"].tolist() == [30, 30]


def test_keys_of_every_kind_are_columns(tmp_path):
    kinds = {
        "replay.exponent": (0.5, None),
        "agent.flag": (True, False),
        "network.hidden": ([64], [64, 64]),
        "replay": ("per", None),
        "env.params": ({"gravity": 1.0}, {"gravity": 2.0}),
        "training.total_steps": (10, 20),
    }
    for k in range(2):
        own = {key.replace(".", "__"): v[k] for key, v in kinds.items()}
        write_run(tmp_path / str(k), **own)
    finals = results.load(tmp_path).finals().iloc[::2]
    assert finals["agent.flag"].tolist() == [True, False]
    assert finals["network.hidden"].tolist() == ["[64]", "[64, 64]"]
    assert finals["env.params.gravity"].tolist() == [1.0, 2.0]
    assert finals["training.total_steps"].tolist() == [10, 20]
    assert "replay.exponent" not in finals  # It lies below one that differs itself.
    assert finals["replay"].isna().tolist() == [False, True]


def test_what_is_not_counted_is_no_key(tmp_path):
    for k in range(2):
        write_run(tmp_path / str(k), seed=k, tracking__interval=k + 1, sweep="grid")
    assert results.load(tmp_path).keys == []


def test_everything_below_a_folder_is_found_once(tmp_path, sweep):
    write_run(tmp_path / "runs" / "paper")
    write_run(tmp_path / "runs" / "paper" / "second")
    for hidden in (".trash", "wandb", "checkpoints"):
        write_run(tmp_path / "runs" / "paper" / hidden / "third")
    runs = results.load(tmp_path, sweep, tmp_path / "runs")
    ours = [f"sweeps/mine/today/{name}" for name in ("0", "1", "2", "10")]
    assert names(runs, tmp_path) == ["runs/paper", "runs/paper/second", *ours]
    assert names(results.load(sweep / "10"), tmp_path) == [ours[-1]]


def test_what_is_left_out_is_told_in_a_line_for_each_kind(tmp_path):
    whole = write_run(tmp_path / "0")
    for name in ("1", "2", "3"):
        write_run(tmp_path / name, {}, steps=())
    (write_run(tmp_path / "4") / "config.json").write_text('{"format": 1,')
    (write_run(tmp_path / "5") / "config.json").unlink()
    (write_run(tmp_path / "6") / "metrics.jsonl").write_text("nonsense\n")
    (tmp_path / "7" / ".hydra").mkdir(parents=True)
    lines = []
    runs = results.load(tmp_path, tell=lines.append)
    assert runs.finals()["seed"].tolist() == [0, 1]
    assert [point.directory for point in runs.points] == [whole]
    at = tmp_path
    assert lines == [
        f"left out 4 of 8 folders, with no rows yet: {at}/1, {at}/2 and 2 more",
        f"left out 1 of 8 folders, with a damaged config.json: {at}/4/config.json: "
        "expected JSON (Expecting property name enclosed in double quotes)",
        f"left out 1 of 8 folders, with metrics.jsonl and no config.json: {at}/5",
        f"left out 1 of 2 folders, with a damaged metrics.jsonl: {at}/6/metrics.jsonl: "
        "line 1: expected a row of metrics",
    ]


def test_in_python_they_are_warnings(tmp_path):
    write_run(tmp_path / "0")
    write_run(tmp_path / "1", {}, steps=())
    with pytest.warns(UserWarning, match="left out 1 of 2 folders, with no rows yet"):
        results.load(tmp_path)


def test_bad_paths_are_refused(tmp_path, sweep):
    with pytest.raises(ConfigError, match=r"todya: expected the folder .*/today'\?"):
        results.load(sweep.parent / "todya")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: expected a run or a sweep, with"):
        results.load(tmp_path / "empty")
    write_run(tmp_path / "empty" / "new", {}, steps=())
    with pytest.raises(ConfigError, match=r"jsonl; left out 1 of 1 .* rows yet: .*new"):
        results.load(tmp_path / "empty")
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text("nonsense\n")
    runs = results.load(run, tell=lambda line: None)
    with pytest.raises(ConfigError, match=r"run: expected rows in metrics\.jsonl"):
        runs.frame()


def test_the_metric_of_runs(sweep, tmp_path):
    runs = results.load(sweep)
    assert runs.metrics() == ["evaluation/return", "own"]
    assert runs.metrics(runs.points[3]) == ["own"]
    assert (runs.metric(), runs.metric("own")) == ("evaluation/return", "own")
    with pytest.raises(ConfigError, match=r"--metric=ow: .* did you mean 'own'\?"):
        runs.metric("ow")
    bare = results.load(write_run(tmp_path / "bare", {}, steps=(5,)))
    with pytest.raises(ConfigError, match="expected a run that has logged a metric"):
        bare.metric()


def test_curves_have_the_rows_in_which_something_was_measured(tmp_path):
    rows = {
        "a": [[1.0, 2.0], [math.nan] * 2, [3.0, math.nan]],
        "b": [[math.nan] * 2] * 3,
    }
    write_run(tmp_path / "run", rows, steps=(10, 20, 30))
    (found,) = results.load(tmp_path / "run").curves(["a", "b"])
    assert list(found) == ["a"]
    assert found["a"].steps.tolist() == [10, 30]
    np.testing.assert_array_equal(found["a"].values, [[1.0, 3.0], [2.0, math.nan]])


def test_a_run_that_is_going_on_is_read(tmp_path):
    run = write_run(tmp_path / "run", status="running")
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 30, "member": 0, "seed": 0}) + "\n")
    assert results.load(run).frame()["step"].tolist() == [10, 10, 20, 20]
