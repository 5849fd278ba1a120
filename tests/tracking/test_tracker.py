import json
import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from rl_grads.tracking import open_trackers, tracker, wandb
from rl_grads.tracking.background import Background
from rl_grads.tracking.shown import final_values

SUMMARY = {
    "evaluation/return": {
        "mean": {"value": 2.0},
        "iqm": {"value": 2.5},
        "members": [1.0, 2.0, 3.0],
    },
    "status": "completed",
    "wall_s": 1.5,
    "diverged": [],
}


def train(run, steps, offset=None):
    """What a training loop does; the offset after the last step."""
    with open_trackers(run, offset=offset) as trackers:
        for step in steps:
            trackers.log(step, {"loss": np.arange(3, dtype=np.float32) * step})
        end = trackers.offset()
        trackers.finish(SUMMARY)
    return end


class Recorder:
    """A mirror that keeps what it gets and fails where it is told to."""

    def __init__(self, fail=""):
        self.fail, self.rows, self.summary = fail, [], None
        if fail == "start":
            raise RuntimeError("no server\n  at all")

    def log(self, rows):
        if self.fail == "log":
            raise RuntimeError("no server\n  at all")
        self.rows.append(rows)

    def finish(self, summary):
        self.summary = summary
        if self.fail == "finish":
            raise RuntimeError("no server\n  at all")


@pytest.fixture
def mirrors(monkeypatch):
    """Put recorders where the real trackers would be; returns those that started."""

    def put(*fails):
        started = []

        def start(fail):
            started.append(Recorder(fail))
            return started[-1]

        made = [(f"mirror {f}", lambda f=f: start(f)) for f in fails]
        monkeypatch.setattr(tracker, "_mirrors", lambda run, resume: made)
        return started

    return put


def test_files_are_always_written(make_run):
    run = make_run()
    end = train(run, (0, 10))
    lines = (run.directory / "metrics.jsonl").read_bytes()
    assert len(lines) == end
    assert lines.splitlines()[5] == (
        b'{"step": 10, "member": 2, "seed": 42, "loss": 20.0}'
    )
    assert json.loads((run.directory / "summary.json").read_text()) == SUMMARY
    assert sorted(p.name for p in run.directory.iterdir()) == [
        "metrics.jsonl",
        "summary.json",
    ]


def test_equal_runs_have_equal_metrics_files(make_run):
    runs = [make_run(name) for name in ("a", "b")]
    for run in runs:
        train(run, range(0, 100, 10))
    first, second = ((r.directory / "metrics.jsonl").read_bytes() for r in runs)
    assert first == second


def test_a_mirror_gets_every_row_and_the_summary(make_run, mirrors):
    started = mirrors("", "")
    train(make_run(), range(200))
    for mirror in started:
        assert [rows[0]["step"] for rows in mirror.rows] == list(range(200))
        assert [row["loss"] for row in mirror.rows[7]] == [0.0, 7.0, 14.0]
        assert mirror.summary == SUMMARY


@pytest.mark.parametrize("fail", ["start", "log", "finish"])
def test_a_failing_mirror_warns_once_and_the_rest_goes_on(
    make_run, mirrors, caplog, fail
):
    started = mirrors(fail, "")
    run = make_run()
    with caplog.at_level(logging.WARNING):
        train(run, range(50))
    assert [r.getMessage() for r in caplog.records] == [
        f"mirror {fail} is switched off: RuntimeError: no server at all"
    ]
    assert len((run.directory / "metrics.jsonl").read_text().splitlines()) == 150
    assert len(started[-1].rows) == 50


def test_a_failing_file_stops_the_run(make_run, mirrors):
    mirrors("")
    with open_trackers(make_run()) as trackers:
        trackers._file.close()
        with pytest.raises(ValueError, match="closed file"):
            trackers.log(0, {})


def test_a_directory_that_is_not_there_stops_the_run(make_run):
    run = make_run()
    with pytest.raises(FileNotFoundError):
        open_trackers(run._replace(directory=run.directory / "nowhere"))


def test_training_does_not_wait_for_a_mirror(make_run, monkeypatch):
    gate, recorder = threading.Event(), Recorder()

    def start():
        gate.wait()
        return recorder

    monkeypatch.setattr(tracker, "_mirrors", lambda run, resume: [("slow", start)])
    with open_trackers(make_run()) as trackers:
        for step in range(10):
            trackers.log(step, {"loss": np.zeros(3)})
        assert recorder.rows == []
        gate.set()
    assert len(recorder.rows) == 10
    assert recorder.summary == {}


def test_a_resumed_run_feeds_its_mirrors_what_the_file_says(make_run, mirrors):
    started = mirrors("")
    run = make_run()
    offset = train(run, (10, 20))
    train(run, (30, 40), offset)
    train(run, (30, 50), offset)
    assert [rows[0]["step"] for rows in started[-1].rows] == [10, 20, 30, 50]
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines[::3]] == [10, 20, 30, 50]


def test_the_summary_per_member_and_for_the_population():
    plain = {"status": "completed", "wall_s": 1.5}
    assert final_values(SUMMARY, 1) == {"final/evaluation/return": 2.0, **plain}
    assert final_values(SUMMARY, None) == {
        "final/evaluation/return/mean": 2.0,
        "final/evaluation/return/iqm": 2.5,
        **plain,
    }


def test_which_mirrors_the_settings_ask_for(make_run):
    def names(**settings):
        return [name for name, _ in tracker._mirrors(make_run(**settings), False)]

    assert names() == []
    assert names(trackio=True) == ["Trackio"]
    assert names(runs="member", mode="disabled") == []
    assert names(runs="point", mode="offline") == ["Weights & Biases"]
    assert names(mode="auto", trackio=True) == ["Weights & Biases", "Trackio"]
    assert names(runs="none", mode="online", trackio=True) == []


CUT_OFF = """
import pathlib, sys, time
from rl_grads.tracking.background import Background
class Slow:
    rows = []
    def log(self, rows):
        time.sleep(0.01)
        self.rows.extend(rows)
    def finish(self, summary):
        pathlib.Path(sys.argv[1]).write_text(f"{len(self.rows)} {summary}")
mirror = Background("slow", Slow)
for step in range(30):
    mirror.log([{"step": step}])
raise SystemExit(3)
"""


def test_nothing_is_lost_when_the_program_just_ends(tmp_path):
    command = [sys.executable, "-c", CUT_OFF, tmp_path / "rows"]
    assert subprocess.run(command, timeout=30).returncode == 3
    assert (tmp_path / "rows").read_text() == "30 {}"


def test_a_dropped_mirror_keeps_no_rows(caplog):
    mirror = Background("broken", lambda: Recorder("start"))
    mirror._thread.join()
    mirror.log([{"step": 1}])
    assert mirror._queue.empty()
    mirror.finish({})


def test_importing_costs_no_library():
    code = (
        "import sys, time, rl_grads; start = time.process_time();"
        "import rl_grads.tracking; print(time.process_time() - start);"
        "print(*{'numpy', 'rich', 'jax', 'wandb', 'trackio'} & set(sys.modules))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        for _ in range(3)
    ]
    assert {run.stdout.splitlines()[1] for run in runs} == {""}
    assert min(float(run.stdout.split()[0]) for run in runs) < 0.05


def test_the_loops_own_thread_pays_little(make_run, mirrors):
    mirrors("")
    metrics = {f"m/{i}": np.arange(3, dtype=np.float32) / 3 for i in range(15)}
    with open_trackers(make_run()) as trackers:
        start = time.thread_time()
        for step in range(100):
            trackers.log(step, metrics)
        assert time.thread_time() - start < 0.5


class TestMode:
    def mode(self, make_run, **settings):
        settings = {"mode": "auto"} | settings
        return wandb.resolve_mode(make_run(**settings).settings.wandb)

    def test_auto_without_credentials_is_offline(self, make_run):
        assert self.mode(make_run) == "offline"

    def test_auto_with_a_key_is_online(self, make_run, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        assert self.mode(make_run) == "online"

    @pytest.mark.parametrize(
        ("host", "mode"), [("api.wandb.ai", "online"), ("github.com", "offline")]
    )
    def test_auto_reads_the_netrc_entry_of_the_server(
        self, make_run, monkeypatch, tmp_path, host, mode
    ):
        file = tmp_path / "credentials"
        file.write_text(f"machine {host}\n  login user\n  password {'k' * 40}\n")
        file.chmod(0o600)
        monkeypatch.setenv("NETRC", str(file))
        assert self.mode(make_run) == mode

    def test_auto_follows_the_variable_of_wandb(self, make_run, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert self.mode(make_run) == "offline"
        assert self.mode(make_run, mode="online") == "online"
