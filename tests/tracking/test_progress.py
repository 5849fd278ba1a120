import io
import math
import re

import numpy as np
import pytest
import rich.console

from rl_grads.analysis.statistics import summarise
from rl_grads.tracking import progress
from rl_grads.tracking.progress import Progress, result_table


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves: `clock[0] += seconds`."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def console(terminal=False):
    return rich.console.Console(
        file=io.StringIO(), force_terminal=terminal, width=120, color_system=None
    )


def test_a_plain_line_at_most_every_ten_seconds(clock):
    out = console()
    with Progress(1000, "steps", range(5), True, out) as shown:
        for step in range(0, 1001, 100):
            shown.update(step, {"training/return": np.full(5, step / 10)})
            clock[0] += 4.0
    # Every 4 s 100 steps in each of five members: 125 steps/s.
    assert out.file.getvalue().splitlines() == [
        "0/1000 steps  return 0.0",
        "300/1000 steps  125 steps/s  return 30.0  ETA 0:28",
        "600/1000 steps  125 steps/s  return 60.0  ETA 0:16",
        "900/1000 steps  125 steps/s  return 90.0  ETA 0:04",
        "1000/1000 steps  125 steps/s  return 100.0  ETA 0:00",
    ]


def test_the_last_evaluation_goes_before_training_and_nan_is_left_out(clock):
    out = console()
    with Progress(2, "episodes", range(2), True, out) as shown:
        shown.update(0, {"training/return": np.ones(2)})
        shown.update(1, {"evaluation/return": np.asarray([math.nan, 7.0])})
        clock[0] += 3600.0
        shown.update(1, {"training/return": np.ones(2)})
        shown.update(2, {})
    lines = out.file.getvalue().splitlines()
    assert "return 1.0" in lines[0]
    assert "return 7.0  ETA 1:00:00" in lines[1]
    assert "return 7.0" in lines[2]


def test_a_terminal_gets_a_bar(clock):
    out = console(terminal=True)
    with Progress(1000, "steps", range(10), True, out) as shown:
        for step in (0, 500, 1000):
            shown.update(step, {"training/return": np.full(10, 12.5)})
            clock[0] += 1.0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.file.getvalue())
    for part in (
        "10 seeds",
        "compiling",
        " 50%",
        "100%",
        "5,000 steps/s",
        "return 12.5",
    ):
        assert part in text


def test_a_bar_is_not_drawn_for_every_update(clock):
    out = console(terminal=True)
    with Progress(1000, "steps", range(1), True, out) as shown:
        shown.update(0, {})
        before = len(out.file.getvalue())
        for step in range(1, 100):
            shown.update(step, {})
        assert len(out.file.getvalue()) == before


@pytest.mark.parametrize("terminal", [False, True])
def test_disabled_shows_nothing(terminal):
    out = console(terminal)
    with Progress(10, "steps", range(1), False, out) as shown:
        shown.update(10, {"training/return": np.ones(1)})
    assert out.file.getvalue() == ""


def test_without_a_console_it_goes_to_standard_error(capsys):
    with Progress(10, "steps", range(1)) as shown:
        shown.update(10, {})
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("10/10 steps")


def render(summary, paths=()):
    out = console()
    out.print(result_table(summary, paths))
    return out.file.getvalue()


def test_the_table_has_estimates_members_divergence_and_paths():
    path = "/a/very/long/path" * 10 + "/metrics.jsonl"
    summary = {
        "evaluation/return": summarise([500.0] * 9 + [450.0]),
        "status": "completed",
        "diverged": [3, 4],
    }
    text = render(summary, [path])
    row = next(line for line in text.splitlines() if "evaluation" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[0] == "evaluation/return"
    assert cells[1].startswith("495 (48")
    assert cells[1].endswith(" to 500)")
    assert cells[2].startswith("500 (")
    assert cells[3:] == ["10", "2"]
    assert path in text.replace("\n", "")


def test_notes_stand_below_the_table():
    text = render({"a": summarise([1.0, 3.0]), "notes": ["mind this"]}, ["a/path"])
    assert text.splitlines()[-2:] == ["mind this", "a/path"]


def test_the_table_says_what_is_unknown():
    text = render({"a": summarise([1.0, 3.0]), "b": summarise([1.0, math.nan, 2.0])})
    rows = [
        [c.strip() for c in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]
    assert rows == [["a", "2", "2", "2", "0"], ["b", "-", "-", "3", "0"]]
