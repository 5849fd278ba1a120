"""Offline runs, read back from the files that `wandb sync` would send."""

import json
import logging
import struct
import subprocess
import time
from typing import NamedTuple

import numpy as np
import pytest
from wandb.proto.wandb_internal_pb2 import Record

from rl_grads.analysis.statistics import spread
from rl_grads.tracking import open_trackers

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
SUMMARY = {
    "return": {"mean": {"value": 2.0}, "iqm": {"value": 2.5}, "members": [1.0, 2, 3]},
    "status": "completed",
}


class Stored(NamedTuple):
    """What one file holds."""

    run: object
    rows: list
    metrics: list
    summary: dict
    exit_code: int


def records(path):
    """W&B's file is a LevelDB log: a header, then fragments within blocks of 32 KiB."""
    data, position, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        part = data[position + 7 : position + 7 + size]
        whole = part if kind in (FULL, FIRST) else whole + part
        position += 7 + size
        if kind in (FULL, LAST):
            yield Record.FromString(whole)


def items(entries):
    return {e.key or ".".join(e.nested_key): json.loads(e.value_json) for e in entries}


def stored(path):
    run, rows, metrics, summary, code = None, [], [], {}, -1
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        elif kind == "history":
            rows.append(items(record.history.item))
        elif kind == "metric":
            metrics.append(record.metric)
        elif kind == "summary":
            summary |= items(record.summary.update)
        elif kind == "exit":
            code = record.exit.exit_code
    return Stored(run, rows, metrics, summary, code)


def read(run):
    """The runs in the directory, in order of their names."""
    files = list(run.directory.glob("wandb/offline-run-*/*.wandb"))
    found = [stored(file) for file in files]
    deadline = time.monotonic() + 10
    # W&B's service closes a file shortly after `finish` has returned.
    while any(s.exit_code < 0 for s in found) and time.monotonic() < deadline:
        time.sleep(0.02)
        found = [stored(file) for file in files]
    return sorted(found, key=lambda s: s.run.display_name)


def train(run, steps, offset=None):
    with open_trackers(run, offset=offset) as trackers:
        for step in steps:
            values = np.asarray([0.1, 1, 2.5], np.float32) * step
            trackers.log(step, {"loss": values, "return": values + 1})
        end = trackers.offset()
        trackers.finish(SUMMARY)
    return end


def test_every_member_has_a_run_with_its_rows(make_run):
    run = make_run(runs="member", mode="auto", project="walks", tags=("a", "b"))
    train(run, (10, 20))
    found = read(run)
    assert [s.run.display_name for s in found] == [
        f"walk/today · seed {seed}" for seed in (40, 41, 42)
    ]
    for member, s in enumerate(found):
        values = {10: [1.0, 10.0, 25.0], 20: [2.0, 20.0, 50.0]}
        assert [
            (r["env_steps"], r["_step"], r["loss"], r["return"]) for r in s.rows
        ] == [(t, t, v[member], v[member] + 1) for t, v in values.items()]
        assert (s.run.project, s.run.run_group) == ("walks", "walk/today")
        assert (s.run.job_type, list(s.run.tags)) == ("train", ["a", "b"])
        config = items(s.run.config.update)
        assert config["seed"] == 40 + member
        assert config["member"] == member
        assert config["agent"] == {"discount": 0.99}
        assert config["optimizer"] == {"momentum": (0.1, 0.2, 0.3)[member]}
        assert s.summary["final/return"] == member + 1
        assert s.summary["status"] == "completed"
        assert s.exit_code == 0


def test_the_axis_is_environment_steps(make_run):
    run = make_run(runs="point", mode="offline")
    train(run, (10,))
    (s,) = read(run)
    axes = {m.name or m.glob_name: m.step_metric for m in s.metrics}
    assert axes["*"] == "env_steps"
    assert "env_steps" in axes


def test_a_point_has_one_run_of_its_members_together(make_run):
    run = make_run(runs="point", mode="offline", group="study")
    train(run._replace(over_members=spread), (10, 20))
    (s,) = read(run)
    assert s.run.display_name == "walk/today"
    assert s.run.run_group == "study"
    # Of 1, 10 and 25 at step 10: the middle half is a quarter of 1 and of 25, and 10.
    assert [(r["env_steps"], r["loss"], r["iqm/loss"]) for r in s.rows] == [
        (10, 12.0, 11.0),
        (20, 24.0, 22.0),
    ]
    assert [(r["low/return"], r["high/return"]) for r in s.rows] == [(2, 26), (3, 51)]
    assert s.summary["final/return/mean"] == 2.0
    assert s.summary["final/return/iqm"] == 2.5
    config = items(s.run.config.update)
    assert "member" not in config
    assert config["agent"] == {"discount": 0.99}
    assert config["optimizer"] == {"momentum": [0.1, 0.2, 0.3]}


def test_many_members_have_one_run_by_themselves(make_run):
    run = make_run(mode="offline")
    train(run._replace(company=60, differs={"replay": "replay=per"}), (10,))
    (s,) = read(run)
    assert s.run.display_name == "replay=per"


def test_the_git_revision_is_attached(make_run, tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    commands = (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "x"))
    for command in commands:
        subprocess.run(["git", *command], check=True)
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    run = make_run(runs="point", mode="offline")
    train(run, (10,))
    assert read(run)[0].run.git.commit == revision


def test_nothing_is_printed(make_run, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        train(make_run(runs="member", mode="offline"), (10,))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_resumed_run_has_its_id_and_no_row_twice(make_run):
    run = make_run(runs="point", mode="offline")
    offset = train(run, (10, 20))
    before = read(run)[0].run.run_id
    train(run, (30, 40), offset)
    train(run, (30, 50), offset)
    (s,) = read(run)
    assert s.run.run_id == before
    assert [r["env_steps"] for r in s.rows] == [10, 20, 30, 50]


def test_a_resume_may_show_a_point_where_there_were_members(make_run):
    run = make_run(runs="member", mode="offline")
    offset = train(run, (10,))
    train(make_run(runs="point", mode="offline"), (20,), offset)
    (s,) = read(run)
    assert [r["env_steps"] for r in s.rows] == [10, 20]


def test_a_new_run_in_the_same_directory_has_a_new_id(make_run):
    run = make_run(runs="point", mode="offline")
    train(run, (10,))
    train(run, (10,))
    assert len({s.run.run_id for s in read(run)}) == 2


def test_a_part_that_was_synchronised_is_kept(make_run):
    run = make_run(runs="point", mode="offline")
    offset = train(run, (10,))
    (file,) = run.directory.glob("wandb/offline-run-*/*.wandb")
    file.with_name(f"{file.name}.synced").touch()
    id = read(run)[0].run.run_id
    file.parent.rename(file.parent.with_name(f"offline-run-20200101_000000-{id}"))
    train(run, (20,), offset)
    assert sorted(len(s.rows) for s in read(run)) == [1, 2]


def test_a_cut_off_run_keeps_its_rows_and_is_marked_failed(make_run):
    run = make_run(runs="point", mode="offline")
    with pytest.raises(KeyboardInterrupt), open_trackers(run) as trackers:
        trackers.log(10, {"loss": np.ones(3)})
        raise KeyboardInterrupt
    (s,) = read(run)
    assert [r["loss"] for r in s.rows] == [1.0]
    assert s.exit_code == 1


def test_online_without_credentials_warns_and_never_asks(make_run, caplog):
    run = make_run(runs="member", mode="online")
    with caplog.at_level(logging.WARNING):
        train(run, (10,))
    assert [r.getMessage() for r in caplog.records] == [
        "Weights & Biases is switched off: RuntimeError: no credentials; "
        "run `wandb login` or set WANDB_API_KEY"
    ]
    assert (run.directory / "summary.json").exists()
    assert not (run.directory / "wandb").exists()


def test_a_point_stands_in_its_sweep_and_has_tags(make_run):
    run = make_run(runs="point", mode="offline", tags=("mine",))
    train(
        run._replace(group="walk/T", tags=("agent:td", "mine"), job_type="eval"), (1,)
    )
    (s,) = read(run)
    assert (s.run.run_group, s.run.job_type) == ("walk/T", "eval")
    assert list(s.run.tags) == ["agent:td", "mine"]


def test_labels_that_the_environment_gave_are_not_sent(make_run):
    run = make_run(runs="point", mode="offline", tags=("s3cret",), group="s3cret")
    shown = {"group": "${oc.env:GROUP}", "tags": "[${oc.env:GROUP}]"}
    shown = {"tracking": {"wandb": shown}}
    train(run._replace(configs=(shown,) * 3), (1,))
    (s,) = read(run)
    assert s.run.run_group == "${oc.env:GROUP}"
    assert list(s.run.tags) == ["[${oc.env:GROUP}]"]
    files = [path for path in run.directory.rglob("*") if path.is_file()]
    assert files and not any(b"s3cret" in path.read_bytes() for path in files)
