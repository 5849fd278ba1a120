import json
import math
import os

import numpy as np
import pytest

from rl_grads.tracking.files import MetricsFile, make_rows, read_rows, write_json

ODD = [1.0, math.nan, math.inf, -math.inf]


def log(path, steps, offset=None):
    file = MetricsFile(path, offset)
    for step in steps:
        metrics = {"loss": np.asarray([0.1, 1 / 3], np.float32) * step}
        file.log(make_rows(step, metrics, (7, 8)))
    size = file.offset()
    file.close()
    return size


def test_rows_are_literal(tmp_path):
    metrics = {
        "b": np.asarray([0.1, 1e-8], np.float32),
        "a": np.asarray([3, 4], np.int32),
        "c": np.asarray([0.1, 1 / 3], np.float64),
    }
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.log(make_rows(np.int64(20), metrics, (7, 8)))
    file.close()
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 20, "member": 0, "seed": 7, "a": 3, "b": 0.1, "c": 0.1}\n'
        '{"step": 20, "member": 1, "seed": 8, "a": 4, "b": 1e-08, '
        '"c": 0.3333333333333333}\n'
    )


def test_every_float32_comes_back_exactly(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    file = MetricsFile(tmp_path / "m")
    file.log(make_rows(0, {"x": values}, range(values.size)))
    file.close()
    lines = (tmp_path / "m").read_text().splitlines()
    read = [json.loads(line)["x"] for line in lines]
    assert np.array_equal(np.asarray(read, np.float32), values)


def test_nonfinite_values_are_strict_json_and_come_back(tmp_path):
    file = MetricsFile(tmp_path / "m")
    file.log(make_rows(5, {"x": np.asarray(ODD)}, range(4)))
    file.close()

    def refuse(token):
        raise AssertionError(token)

    lines = (tmp_path / "m").read_text().splitlines()
    written = [json.loads(line, parse_constant=refuse)["x"] for line in lines]
    assert written == [1.0, None, "Infinity", "-Infinity"]
    ((*rows,),) = read_rows(tmp_path / "m")
    np.testing.assert_array_equal([row["x"] for row in rows], ODD)


def test_a_wrong_shape_names_the_metric():
    with pytest.raises(ValueError, match=r"'loss' has shape \(3,\): expected \(2,\)"):
        make_rows(0, {"loss": np.zeros(3)}, (0, 1))


def test_equal_runs_have_equal_bytes(tmp_path):
    for name in ("a", "b"):
        log(tmp_path / name, range(0, 5000, 1000))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_resuming_at_an_offset_gives_the_bytes_of_one_run(tmp_path):
    log(tmp_path / "whole", range(6))
    offset = log(tmp_path / "cut", range(3))
    log(tmp_path / "cut", range(3, 5), offset)
    log(tmp_path / "cut", range(3, 6), offset)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_offset_counts_every_logged_byte(tmp_path):
    file = MetricsFile(tmp_path / "m")
    assert file.offset() == 0
    file.log(make_rows(1, {"x": np.zeros(1)}, (0,)))
    assert file.offset() == (tmp_path / "m").stat().st_size == 46
    file.close()


def test_logged_rows_are_readable_at_once(tmp_path):
    file = MetricsFile(tmp_path / "m")
    file.log(make_rows(1, {}, (0,)))
    assert (tmp_path / "m").read_text() == '{"step": 1, "member": 0, "seed": 0}\n'
    file.close()


def test_a_new_run_starts_with_an_empty_file(tmp_path):
    log(tmp_path / "m", range(9))
    assert log(tmp_path / "m", ()) == 0


def test_a_file_shorter_than_the_checkpoint_says_is_refused(tmp_path):
    size = log(tmp_path / "m", range(2))
    with pytest.raises(ValueError, match=f"has {size} bytes: expected at least 9999"):
        MetricsFile(tmp_path / "m", 9999)
    assert (tmp_path / "m").stat().st_size == size


def test_rows_are_read_by_step_and_up_to_an_offset(tmp_path):
    offset = log(tmp_path / "m", (10, 20))
    log(tmp_path / "m", (30,), offset)
    steps = [[row["step"] for row in rows] for rows in read_rows(tmp_path / "m")]
    assert steps == [[10, 10], [20, 20], [30, 30]]
    assert len(list(read_rows(tmp_path / "m", stop=offset))) == 2


def test_json_has_numpy_values_paths_and_nonfinite_numbers(tmp_path):
    value = {
        "array": np.asarray([1.5, np.nan]),
        "number": np.float32(0.5),
        "count": np.int64(3),
        "path": tmp_path,
        "odd": tuple(ODD),
    }
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "array": [1.5, None],
        "number": 0.5,
        "count": 3,
        "path": str(tmp_path),
        "odd": [1.0, None, "Infinity", "-Infinity"],
    }


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_document_and_no_rubbish(
    tmp_path, monkeypatch, broken
):
    path = tmp_path / "run" / "x.json"
    path.parent.mkdir()
    write_json(path, {"old": 1})

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"new": 2})
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text()) == {"old": 1}
