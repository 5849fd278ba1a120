"""Runs in Trackio's real store, read back with what its dashboard reads them with."""

import json
import logging
import math
import socket

import numpy as np
import pytest

from rl_grads.analysis.statistics import spread
from rl_grads.tracking import open_trackers

NAMES = [f"walk/today · seed {seed}" for seed in (40, 41, 42)]


def train(run, steps, offset=None, value=1.0):
    with open_trackers(run, offset=offset) as trackers:
        for step in steps:
            values = np.asarray([0.1, 1, 2.5], np.float32) * step * value
            trackers.log(step, {"loss": values})
        end = trackers.offset()
        trackers.finish({"status": "completed"})
    return end


def rows(store, name):
    return [(row["step"], row["loss"]) for row in store.get_logs("rl_grads", name)]


def test_every_member_has_a_run_with_its_rows(make_run, store):
    train(make_run(trackio=True), (10, 20))
    assert store.get_projects() == ["rl_grads"]
    assert store.get_runs("rl_grads") == NAMES
    assert rows(store, NAMES[0]) == [(10, 1.0), (20, 2.0)]
    assert rows(store, NAMES[2]) == [(10, 25.0), (20, 50.0)]
    config = store.get_run_config("rl_grads", NAMES[1])
    assert config["_Group"] == "walk/today"
    assert (config["seed"], config["member"]) == (41, 1)
    assert config["agent.discount"] == 0.99
    assert config["optimizer.momentum"] == 0.2


def test_a_point_has_one_run_of_its_members_together(make_run, store):
    run = make_run(trackio=True, runs="point")
    told = run._replace(
        over_members=spread, group="walk/T", differs={"seed": "seed=40", "a": "a=1"}
    )
    offset = train(told, (10,))
    train(told, (20,), offset)
    (name,) = store.get_runs("rl_grads")
    assert name == "seed=40 · a=1"
    logs = store.get_logs("rl_grads", name)
    assert [(r["step"], r["loss"], r["iqm/loss"]) for r in logs] == [
        (10, 12.0, 11.0),
        (20, 24.0, 22.0),
    ]
    assert [(r["low/loss"], r["high/loss"]) for r in logs] == [(1, 25), (2, 50)]
    config = store.get_run_config("rl_grads", name)
    assert (config["_Group"], config["members"]) == ("walk/T", 3)
    assert config["optimizer.momentum"] == [0.1, 0.2, 0.3]


def test_no_runs_leave_no_store(make_run, store):
    train(make_run(trackio=True, runs="none"), (10,))
    assert store.get_projects() == []


def test_nonfinite_values_reach_the_store(make_run, store):
    with open_trackers(make_run(trackio=True)) as trackers:
        trackers.log(1, {"loss": np.asarray([math.nan, math.inf, -math.inf])})
    found = [rows(store, name)[0][1] for name in NAMES]
    np.testing.assert_array_equal(found, [math.nan, math.inf, -math.inf])


def test_a_resumed_run_shows_what_the_file_says(make_run, store):
    run = make_run(trackio=True)
    offset = train(run, (10, 20))
    train(run, (30, 40), offset)
    train(run, (30, 50), offset, value=2.0)
    assert store.get_runs("rl_grads") == NAMES
    assert rows(store, NAMES[1]) == [(10, 10.0), (20, 20.0), (30, 60.0), (50, 100.0)]


def test_a_resume_may_show_a_point_where_there_were_members(make_run, store):
    offset = train(make_run(trackio=True), (10,))
    train(make_run("other", trackio=True), (10,))
    train(make_run(trackio=True, runs="point"), (20,), offset)
    assert store.get_runs("rl_grads") == [*NAMES, "walk/today"]  # Of the other.
    assert rows(store, "walk/today") == [(10, 12.0), (20, 24.0)]


def test_members_with_one_seed_stay_apart(make_run, store):
    run = make_run(trackio=True)._replace(seeds=(7, 7, 7))
    train(run, (10, 20))
    names = [f"walk/today · member {k} · seed 7" for k in range(3)]
    assert store.get_runs("rl_grads") == names
    assert rows(store, names[2]) == [(10, 25.0), (20, 50.0)]


def test_two_runs_of_one_name_stay_apart(make_run, store):
    for folder in ("a", "b"):
        train(make_run(folder, trackio=True), (10,))
    assert len({r["id"] for r in store.get_run_records("rl_grads")}) == 6


def test_nothing_is_contacted_served_or_printed(
    make_run, store, monkeypatch, capfd, caplog
):
    def refuse(*arguments):
        raise AssertionError(f"a socket was used: {arguments}")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "someone/space")
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9/?write_token=a")
    with caplog.at_level(logging.WARNING):
        train(make_run(trackio=True), (10,))
    assert rows(store, NAMES[0]) == [(10, 1.0)]
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_network_disk_gets_fragments_instead_of_a_database(
    make_run, store, monkeypatch
):
    import trackio.fragments

    monkeypatch.setenv("TRACKIO_STORAGE_MODE", "jsonl")
    run = make_run(trackio=True)
    offset = train(run, (10,))
    train(run, (20,), offset)
    assert not list(trackio.utils.TRACKIO_DIR.glob("*.db"))
    fragment = next(trackio.fragments.local_inbox_dir().glob("*/*.jsonl"))
    assert json.loads(fragment.read_text().splitlines()[0])["step"] == 10
    trackio.fragments.import_inbox_dir()
    assert store.get_runs("rl_grads") == NAMES
    assert rows(store, NAMES[0]) == [(10, 1.0), (20, 2.0)]


def test_a_project_name_that_trackio_reserves_warns_once(make_run, store, caplog):
    with caplog.at_level(logging.WARNING):
        train(make_run(trackio=True, project="registry-x"), (10,))
    (record,) = caplog.records
    assert record.getMessage().startswith("Trackio is switched off: ValueError:")


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_rows_are_written_now_and_then_and_at_the_end(
    make_run, store, monkeypatch, seconds
):
    from rl_grads.tracking import trackio as ours

    writes = []
    bulk_log = store.bulk_log
    monkeypatch.setattr(ours, "_WRITE_SECONDS", seconds)
    monkeypatch.setattr(
        store, "bulk_log", lambda **kw: (writes.append(1), bulk_log(**kw))
    )
    train(make_run(trackio=True), (10, 20, 30))
    assert len(writes) == (9 if seconds == 0.0 else 3)
    assert len(rows(store, NAMES[0])) == 3
