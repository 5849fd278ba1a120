"""`rl-grads list` and `rl-grads delete`."""

import json
import shlex
import sys

import pytest

from rl_grads.tracking.lease import Lease
from tests.results.made_runs import write_run


def when(day, minutes=1.5):
    end = f"2026-11-{day}T05:{30 + int(minutes)}:{int(minutes % 1 * 60):02}+00:00"
    return {"start": f"2026-11-{day}T05:30:00+00:00", "end": end}


@pytest.fixture
def many(home):
    """Two runs, and a sweep between them in time."""
    write_run(home / "runs" / "train" / "late", run=when(24))
    sweep = home / "sweeps" / "train" / "rates"
    for k, rate in enumerate((0.1, 0.2)):
        returns = {"evaluation/return": [[1.0, 2.0, 3.0], [4.0 + k, 5.0 + k, 6.0 + k]]}
        own = {"seeds": (0, 1, 2), "optimizer__learning_rate": rate, "run": when(23, 3)}
        write_run(sweep / str(k), returns, status=("finished", "diverged")[k], **own)
    early = home / "runs" / "train" / "early"
    write_run(early, {}, steps=(), status="failed", run=when(22))
    return sweep


def test_runs_and_sweeps_are_listed_the_newest_last(many, command):
    status, out, err = command("list")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "runs/train/early",
        "  2026-11-22 05:30, 1 min 30 s, failed",
        "sweeps/train/rates",
        "  2026-11-23 05:30, 3 min, 2 points: 1 finished, 1 diverged; best of 2",
        "  evaluation/return 6 (5 to 7), n = 3; lr=0.2",
        "runs/train/late",
        "  2026-11-24 05:30, 1 min 30 s, finished; evaluation/return 3.5, n = 2",
    ]


def test_the_points_of_a_sweep_are_listed(many, command):
    _, out, _ = command("list", "sweeps/train/rates")
    assert out.splitlines()[::2] == ["sweeps/train/rates/0", "sweeps/train/rates/1"]
    assert "diverged; evaluation/return 6 (5 to 7), n = 3" in out
    _, out, _ = command("list", "sweeps/train/rates/1")
    assert out.splitlines()[0] == "sweeps/train/rates/1"


def test_who_works_is_running(many, command, home):
    run = write_run(home / "runs" / "now", status="running", run={"end": None})
    assert "stopped" in command("list", "runs/now").out
    with Lease(run):
        out = command("list", "runs/now").out
        assert ", running" in out
    other = {"host": "far", "machine": "far", "pid": 7, "began": "1", "counter": 1}
    (run / "lease.json").write_text(json.dumps(other))
    assert "running on far?" in command("list", "runs/now").out


def test_a_point_is_held_by_its_population(many, command):
    (many.parent / "rates" / "population-0").mkdir()
    document = json.loads((many / "0" / "run.json").read_text())
    (many / "0" / "summary.json").unlink()
    told = document | {"status": "running", "population": "../population-0"}
    (many / "0" / "run.json").write_text(json.dumps(told))
    with Lease(many / "population-0"):
        assert "1 running, 1 diverged" in command("list").out
    assert "1 stopped, 1 diverged" in command("list").out


def test_the_list_fits_a_terminal(home, command):
    deep = home / "runs" / "experiment"
    own = {"agent__x": "w" * 60, "env__id": "v" * 60, "run": when(20)}
    write_run(deep / "0", {"evaluation/return": [[1 / 3]]}, seeds=(1,), steps=(1,))
    write_run(
        deep / "1", {"evaluation/return": [[1 / 3]]}, seeds=(1,), steps=(1,), **own
    )
    out = command("list").out
    assert max(map(len, out.splitlines())) <= 80
    assert "best of 2 evaluation/return 0.3333, n = 1" in " ".join(out.split())


def test_odd_folders_are_told_and_the_others_listed(many, command, home):
    (home / "runs" / "train" / "late" / "config.json").write_text("{")
    status, out, err = command("list")
    assert status == 0
    assert err.startswith(
        "rl-grads list: left out 1 of 4 folders, with a damaged config"
    )
    assert "runs/train/late" not in out
    for text in ("[]", '{"evaluation/return": {"members": [[]]}}', '{"start": 3}'):
        (many / "0" / "summary.json").write_text(text)
        (many / "0" / "run.json").write_text(text)
        assert "1 not begun, 1 diverged" in command("list").out


def test_nothing_to_list(home, command):
    _, _, err = command("list")
    expected = "expected it or sweeps here, or a folder of runs"
    assert err == f"rl-grads list: runs: {expected}\n"
    (home / "runs").mkdir()
    status, _, err = command("list")
    assert (status, err) == (2, "rl-grads list: runs: expected a run below it\n")
    status, _, err = command("list", "rnus")
    assert "rnus: expected the folder of a run or sweep; did you mean 'runs'?" in err


# ----------------------------------------------------------------------------- deleting


def test_a_run_is_moved_into_the_trash(many, command, home):
    for number in ("", "-2"):
        status, out, err = command("delete", "runs/train/late")
        assert (status, err) == (0, "")
        place = f"runs/train/.trash/late{number}"
        first, second = out.splitlines()
        assert first == f"runs/train/late: moved to {place}"
        assert second.startswith("  to free ") and second.endswith(f": rm -r {place}")
        assert (home / place / "config.json").is_file()
        assert "late" not in command("list").out
        write_run(home / "runs" / "train" / "late")


def test_a_sweep_and_a_point_are_moved(many, command, home):
    assert command("delete", "sweeps/train/rates/1").status == 0
    assert (many / ".trash" / "1" / "summary.json").is_file()
    assert "best" not in command("list").out
    assert command("delete", "sweeps/train/rates/").status == 0
    assert (many.parent / ".trash" / "rates" / "0" / "summary.json").is_file()


def test_what_mirrors_keep_is_told(many, command, home, monkeypatch):
    for tracker, count in (("wandb", 2), ("trackio", 1)):
        document = {"project": "mine", "ids": ["0123456789abcdef"] * count}
        (many / "0" / f"{tracker}.json").write_text(json.dumps(document))
    bad = {"project": "a'; import os", "ids": ["0123456789abcdef"]}
    (many / "1" / "wandb.json").write_text(json.dumps(bad))
    lines = command("delete", "sweeps/train/rates").out.splitlines()[2:]
    assert lines[0] == "  W&B keeps 2 runs in mine; to delete them there:"
    assert lines[2] == "  Trackio keeps 1 run in mine; to delete them there:"
    assert len(lines) == 4
    python, flag, code = shlex.split(lines[1])
    deleted = []

    class Api:
        def run(self, name):
            self.name = name
            return self

        def delete(self):
            deleted.append(self.name)

    monkeypatch.setitem(sys.modules, "wandb", type("wandb", (), {"Api": Api}))
    exec(code, {})
    assert (python, flag, deleted) == ("python", "-c", ["mine/0123456789abcdef"] * 2)
    compile(shlex.split(lines[3])[2], "", "exec")


def test_a_run_in_which_a_process_works_stays(many, command, home):
    (many / "population-0").mkdir()
    with Lease(many / "population-0"):
        status, out, err = command("delete", "runs/train/late", "sweeps/train/rates")
    assert (status, out) == (2, "")
    assert (
        "sweeps/train/rates/population-0: expected a run in which nobody works" in err
    )
    assert (home / "runs" / "train" / "late").is_dir()


def test_what_is_no_run_stays(many, command, home, monkeypatch):
    (home / "link").symlink_to(home / "runs" / "train" / "late")
    for path in ("runs", "runs/train", "nothing", "link"):
        status, _, err = command("delete", path)
        assert status == 2
        assert f"{path}: expected the folder of a run or a sweep" in err
    monkeypatch.chdir(many / "0")
    _, _, err = command("delete", "..")
    assert "..: expected a folder other than the current one" in err
    assert many.is_dir()
