"""What DuckDB reads is what `read_rows` reads."""

import json
import math
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_grads.results import rows
from rl_grads.results.rows import Damaged, File
from rl_grads.tracking.files import LABELS, MetricsFile, make_rows, read_rows

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda name: name.lower() not in LABELS
)
VALUES = st.floats(width=64)


@st.composite
def contents(draw):
    """A metrics file: metrics that may differ between steps, and a torn end."""
    members = draw(st.integers(1, 3))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    steps = sorted(draw(st.sets(st.integers(0, 2**62), min_size=1, max_size=4)))
    parts = []
    for step in steps:
        own = draw(st.lists(st.sampled_from(names), unique=True))
        metrics = {
            name: np.array(draw(st.lists(VALUES, min_size=members, max_size=members)))
            for name in own
        }
        seeds = [2**32 - 1 - k for k in range(members)]
        parts.append(make_rows(step, metrics, seeds))
    return parts, draw(st.integers(0, 200))


def written(path, parts, cut):
    file = MetricsFile(path)
    for part in parts:
        file.log(part)
    file.close()
    content = path.read_bytes()
    first = sum(len(line) + 1 for line in content.split(b"\n")[: len(parts[0])])
    path.write_bytes(content[: max(len(content) - cut, first)])


def flat(path):
    return [row for group in read_rows(path) for row in group]


@settings(max_examples=40)
@given(st.lists(contents(), min_size=1, max_size=3))
def test_the_rows_are_those_of_the_other_reader(made):
    with tempfile.TemporaryDirectory() as place:
        files = []
        for number, (parts, cut) in enumerate(made):
            path = pathlib.Path(place, f"[{number}]*.jsonl")
            written(path, parts, cut)
            files.append(File(path))
        expected = [flat(file.path) for file in files]
        names = rows.names(files)
        assert [set(n) for n in names] == [
            {k for row in own for k in row if k not in LABELS} for own in expected
        ]
        every = sorted({name for own in names for name in own})
        table, last = rows.read(files, every), rows.last(files, every)
    whole = [(k, row) for k, own in enumerate(expected) for row in own]
    assert table.file.tolist() == [k for k, _ in whole]
    for label in LABELS:
        assert getattr(table, label).tolist() == [row[label] for _, row in whole]
    for name in every:
        values = [float(row.get(name, math.nan)) for _, row in whole]
        np.testing.assert_array_equal(table.metrics[name], values)
        ends: dict[tuple[int, int], float] = {}
        for (k, row), value in zip(whole, values, strict=True):
            known = ends.setdefault((k, row["member"]), math.nan)
            ends[k, row["member"]] = known if math.isnan(value) else value
        np.testing.assert_array_equal(last.metrics[name], list(ends.values()))


def file(path, *lines, end="\n", **more):
    path.write_text("\n".join(lines) + end)
    return File(path, **more)


ROW = '{"step": 5, "member": 0, "seed": 7, "a": 1}'
SECOND = ROW.replace('"member": 0', '"member": 1')
NEXT = '{"step": 6, "member": 0, "seed": 7, "a": "-Infinity", "A": 2.5}'


def test_literal_rows(tmp_path):
    other = '{"step": 9, "member": 0, "seed": 3, "b \'\\"": null, "A": true}'
    files = [file(tmp_path / "a", ROW, NEXT), file(tmp_path / "b", other)]
    assert rows.names(files) == [["A", "a"], ["A", "b '\""]]
    table = rows.read(files, ["a", "A", "b '\"", "unknown"])
    assert table.file.tolist() == [0, 0, 1]
    assert (table.step.tolist(), table.seed.tolist()) == ([5, 6, 9], [7, 7, 3])
    assert table.metrics["a"][:2].tolist() == [1.0, -math.inf]
    assert table.metrics["A"][1:].tolist() == [2.5, 1.0]
    for name, missing in (("a", [2]), ("A", [0]), ("b '\"", [0, 1, 2])):
        assert np.flatnonzero(np.isnan(table.metrics[name])).tolist() == missing
    assert np.isnan(table.metrics["unknown"]).all()
    last = rows.last(files, ["a", "A"])
    assert (last.file.tolist(), last.step.tolist()) == ([0, 1], [6, 9])
    assert last.metrics["a"][0] == -math.inf
    assert last.metrics["A"].tolist() == [2.5, 1.0]


def test_no_metric_is_no_column(tmp_path):
    table = rows.read([file(tmp_path / "a", ROW)], [])
    assert (table.step.tolist(), table.metrics) == ([5], {})


@pytest.mark.parametrize("end", ["", '{"step": 6, "mem', f"{NEXT}\n", NEXT])
def test_what_a_killed_process_left_is_no_row(tmp_path, end):
    own = File(tmp_path / "a")
    own.path.write_text(f"{ROW}\n{SECOND}\n{end}")
    assert rows.read([own], ["a"]).member.tolist() == [0, 1]
    assert rows.last([own], ["a"]).step.tolist() == [5, 5]


def test_a_file_that_grows_is_read_up_to_its_last_whole_step(tmp_path):
    own = file(tmp_path / "a", ROW, NEXT, grows=True)
    assert rows.read([own], ["a"]).step.tolist() == [5, 6]


def test_a_long_last_line_is_found(tmp_path):
    long = json.dumps(
        {"step": 6, "member": 0, "seed": 7} | {str(k): 1 for k in range(9999)}
    )
    own = file(tmp_path / "a", ROW, long)
    assert rows.read([own], ["9998"]).metrics["9998"][1] == 1


DAMAGED = {
    "no JSON": "nonsense",
    "no JSON at the end": f"{ROW}\nnonsense",
    "no JSON in the middle": f"{ROW}\nnonsense\n{NEXT}",
    "a list": "[1, 2]",
    "no number": ROW.replace("1}", '"word"}'),
    "a record": ROW.replace("1}", '{"b": 1}}'),
    "no seed": ROW.replace('"seed": 7, ', ""),
    "members apart": f"{ROW.replace('0,', '1,')}\n{ROW}",
    "a step that breaks off": f"{ROW}\n{SECOND}\n{NEXT}\n{ROW}\n{SECOND}",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(tmp_path, case):
    files = [
        file(tmp_path / "good", ROW),
        file(tmp_path / "bad", DAMAGED[case]),
        file(tmp_path / "better", NEXT),
    ]
    with pytest.raises(Damaged) as raised:
        rows.names(files)
        rows.read(files, ["a"])
    assert raised.value.files == [1]
