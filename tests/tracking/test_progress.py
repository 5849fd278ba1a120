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


def render(summary, paths=(), full=False, width=120):
    out = console()
    out.width = width
    out.print(result_table(summary, paths, full))
    return out.file.getvalue()


def test_the_headline_stands_first_and_the_rest_is_counted():
    summary = {
        "clip/update/angle": summarise([0.0] * 10),
        "loss/td_error_abs": summarise([0.25] * 10),
        "evaluation/return": summarise([500.0] * 9 + [450.0]),
        **{f"diagnostics/number_{k}": summarise([1.0] * 10) for k in range(20)},
        "seeds": list(range(10)),
        "diverged": {"3": 120, "4": 300},
        "notes": ["mind this"],
    }
    lines = render(summary, ["runs/one: metrics.jsonl"], width=80).splitlines()
    assert lines[0].split("  ")[0] == "metric"
    assert lines[1].startswith("evaluation/return     500 (")
    assert lines[1].rstrip().endswith(" to 500)") and "495 (48" in lines[1]
    assert lines[2].startswith("loss/td_error_abs")
    assert lines[-3:] == [
        "10 members, 2 diverged; 6 of 23 metrics: --table full shows all",
        "mind this",
        "runs/one: metrics.jsonl",
    ]
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 80
    whole = render(summary, [], full=True)
    assert all(name in whole for name in summary if "/" in name)
    assert "--table full" not in whole


def test_long_names_are_whole_at_eighty_columns():
    name = "sampling_variance/preconditioned/gradient_norm_last_layer"
    text = render({name: summarise([1.0, 2.0, 4.0])}, width=80)
    assert name in text


def test_the_table_says_what_is_unknown():
    found = {"a": summarise([1.0, 3.0]), "b": summarise([1.0, math.nan, 2.0])}
    rows = [line.split() for line in render(found).splitlines()[1:3]]
    assert rows == [["a", "2", "2"], ["b", "-", "-"]]


def test_what_tells_most_of_prediction_is_its_error(clock):
    out = console()
    with Progress(2, "steps", range(2), True, out) as shown:
        shown.update(1, {"loss/td_error_abs": np.full(2, 0.5)})
        clock[0] += 20.0
        shown.update(2, {"evaluation/rmsve": np.full(2, 0.125)})
    lines = out.file.getvalue().splitlines()
    assert "|TD error| 0.5" in lines[0]
    assert "RMSVE 0.125" in lines[1]


def test_the_log_has_the_lines_also_where_nothing_is_shown(clock):
    said = []
    shown = Progress(100, "steps", range(2), False, console(), said.append)
    for step in range(0, 101, 10):
        shown.update(step, {"training/return": np.ones(2)})
        clock[0] += 4.0
    assert [line.split("/")[0] for line in said] == ["0", "30", "60", "90", "100"]
