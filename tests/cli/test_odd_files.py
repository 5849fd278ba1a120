"""What lies in a folder may be cut, empty, foreign or missing: one line each."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

COMMANDS = (
    ("plot", "curves", "runs/one"),
    ("anatomy", "runs/one", "--step", "42"),
    ("train", "resume=runs/one", "tracking.wandb.mode=disabled"),
)
SAVED = ("checkpoint.interval=44", "network=mlp", "network.hidden=[8]")


@pytest.fixture
def made(train, home):
    """`runs/one`, finished and with its checkpoint."""
    status, _, err = train(*SAVED, "run.id=one", "tracking.interval=4")
    assert status == 0, err
    return home / "runs" / "one"


def refused(command, expected, argvs=COMMANDS):
    for argv in argvs:
        status, _, err = command(*argv)
        assert status == 2, (argv, err)
        assert expected in err, argv
        assert "Traceback" not in err
        assert len(err.strip().splitlines()[-1]) < 300


def test_a_last_line_that_is_not_whole_is_no_row_yet(command, made):
    path = made / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    for argv in COMMANDS:
        status, _, err = command(*argv)
        assert status == 0, (argv, err)
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [44, 44, 48, 48]  # Written again by the resume.


@pytest.mark.parametrize(
    "line", ["{}", "[]", "1", '{"step": 4', "\x00", '{"step": "4"}', "[" * 99999]
)
def test_a_line_that_is_no_row_is_named(command, made, line):
    path = made / "metrics.jsonl"
    path.write_text(f"{line}\n{path.read_text()}")
    refused(command, "metrics.jsonl: line 1: expected a row of metrics")


@pytest.mark.parametrize("name", ["config.json", "run.json", "metrics.jsonl"])
def test_a_folder_in_the_place_of_a_file(command, made, name):
    (made / name).unlink()
    (made / name).mkdir()
    argvs = COMMANDS[1:] if name == "run.json" else COMMANDS
    for argv in argvs:
        status, _, err = command(*argv)
        assert status == 2, (argv, err)
        assert "Traceback" not in err and "expected" in err


def test_a_file_in_the_place_of_the_checkpoints(command, made):
    shutil.rmtree(made / "checkpoints")
    (made / "checkpoints").write_text("")
    refused(command, "finished and kept its parameters alone", COMMANDS[2:])
    assert command(*COMMANDS[1]).status == 0  # Repeated from the start.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        '{"evaluation/return": {"iqm": 1}}',
        '{"a": {"members": [[]]}}',
    ],
)
def test_an_odd_summary_is_a_run_that_has_not_finished(train, command, home, text):
    status, _, err = train("-m", "agent.discount=.9,.95,.99", "run.id=s")
    assert status == 0, err
    sweep = home / "sweeps" / "s"
    (sweep / "2" / "summary.json").write_text(text)
    argv = ("plot", "sensitivity", "sweeps/s", "--x", "agent.discount")
    status, out, err = command(*argv)
    assert status == 0, err
    assert "sweeps/s/2" in err and "left out" in err
    assert "Traceback" not in err
    assert "sensitivity.png" in out


def test_foreign_folders_in_a_sweep_are_left_out(train, command, home):
    status, _, err = train("-m", "agent.discount=.9,.95", "run.id=s")
    assert status == 0, err
    (home / "sweeps/s/7").mkdir()
    (home / "sweeps/s/²").mkdir()  # A digit, but no number.
    (home / "sweeps/s/8").write_text("")
    status, _, err = command("plot", "curves", "sweeps/s")
    assert status == 0, err


def test_a_picture_is_whole_or_not_there(command, made):
    (made / "curves.png").mkdir()
    refused(command, "expected a path that can be written", COMMANDS[:1])
    assert list((made / "curves.png").iterdir()) == []
    assert not list(made.glob(".*tmp"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path):
    descriptor = os.open(disk / "filler", os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while os.write(descriptor, b"\0" * 4096):
            pass
    os.close(descriptor)


def test_a_full_disk_leaves_no_part_of_a_picture(command, made, small_disk):
    stem = small_disk / "picture"
    fill(small_disk)
    argv = ("plot", "curves", "runs/one", "--to", str(stem))
    refused(command, "No space left on device", [argv])
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_a_run_on_a_disk_that_gets_full_stops_with_one_line(train, small_disk):
    (small_disk / "filler").write_bytes(b"\0" * (3 << 18))
    place = small_disk / "run"
    argv = (f"hydra.run.dir={place}", "training.total_steps=20000")
    status, _, err = train(*argv, "tracking.interval=4", "checkpoint.interval=null")
    assert status == 1
    assert "cannot be written (No space left on device)" in err
    assert "Traceback" not in err
    rows = (place / "metrics.jsonl").read_text().splitlines()
    assert len(rows) > 100


def test_a_folder_that_is_removed_ends_its_run(train, home, monkeypatch):
    from rl_grads.training import session

    row = session.Files.row

    def removing(files, step, metrics):
        row(files, step, metrics)
        shutil.rmtree(files.points[0].directory)

    monkeypatch.setattr(session.Files, "row", removing)
    status, _, err = train("run.id=one", "tracking.interval=4")
    assert status == 1
    assert "runs/one/metrics.jsonl: cannot be written (it was removed while" in err
    assert not (home / "runs/one").exists()
