"""`rl-grads sync` on offline runs that W&B itself has written."""

import http.server
import threading

import numpy as np
import pytest

from rl_grads.cli import sync
from rl_grads.tracking import Run, open_trackers
from rl_grads.tracking.schema import Tracking, WandB

KEY = "0" * 40


def offline(directory, seeds=(4, 5)):
    """A run with one offline W&B run per member."""
    directory.mkdir(parents=True)
    settings = Tracking(trackio=False, wandb=WandB(mode="offline", project="walks"))
    run = Run(directory, "walk/today", seeds, ({},) * len(seeds), settings)
    with open_trackers(run) as trackers:
        trackers.log(10, {"loss": np.ones(len(seeds))})
        trackers.finish({})


@pytest.fixture
def sweep(home):
    """A sweep of two points: three offline runs."""
    offline(home / "sweeps/walk/T/0")
    offline(home / "sweeps/walk/T/1", seeds=(6,))
    return home / "sweeps"


@pytest.fixture
def refusing(monkeypatch):
    """A server that refuses everything, as W&B's for a wrong key."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def refused(command, capsys, *argv):
    with pytest.raises(SystemExit, match="2"):
        command("sync", *argv)
    return capsys.readouterr().err.splitlines()[-1]


def test_all_offline_runs_below_a_folder_are_found_in_order(sweep):
    found = list(sync.offline_runs(sweep))
    assert len(found) == 3
    names = [run.directory.name for run in found]
    assert names == sorted(names)
    assert {run.directory.parents[1].name for run in found} == {"0", "1"}
    assert [run.is_uploaded for run in found] == [False] * 3
    assert list(sync.offline_runs(found[0].directory)) == found[:1]


def test_a_dry_run_names_what_would_be_uploaded(sweep, command):
    first, *rest = sync.offline_runs(sweep)
    first.file.with_name(f"{first.file.name}.synced").touch()
    status, out, err = command("sync", "sweeps", "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "sweeps: 3 offline runs, 1 uploaded before",
        *(str(run.directory.relative_to(sweep.parent)) for run in rest),
    ]


def test_nothing_to_do_is_said(home, command):
    (home / "runs").mkdir()
    status, out, _ = command("sync", "runs")
    assert (status, out) == (0, "runs: 0 offline runs, 0 uploaded before\n")


def test_without_credentials_it_is_one_line(sweep, command, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(sweep))
    line = refused(command, capsys, "sweeps")
    expected = "no credentials; run `wandb login` or set WANDB_API_KEY"
    assert line == f"rl-grads sync: error: {expected}"


def test_without_a_network_it_is_one_line(sweep, command, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    line = refused(command, capsys, "sweeps")
    assert line.startswith(
        "rl-grads sync: error: http://127.0.0.1:9: expected W&B's server to answer ("
    )


def test_a_folder_that_is_not_there_is_refused(home, command, capsys):
    assert "nowhere: expected a folder with runs" in refused(command, capsys, "nowhere")


def test_what_the_server_refuses_is_said_run_by_run(sweep, command, refusing):
    status, out, _ = command("sync", "sweeps/walk/T/1")
    assert status == 1
    first, second, last = out.splitlines()
    assert first == "sweeps/walk/T/1: 1 offline run, 0 uploaded before"
    assert "/wandb/offline-run-" in second and ": not uploaded (" in second
    assert last == "0 of 1 offline run uploaded"
