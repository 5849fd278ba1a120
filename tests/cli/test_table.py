"""`rl-grads table`."""

import json

import pytest

from tests.results.made_runs import write_run

RATE = "optimizer.learning_rate"


@pytest.fixture
def sweep(home):
    """Two rates with two agents."""
    for k, (rate, agent) in enumerate([(0.1, "a"), (0.1, "b"), (0.2, "a"), (0.2, "b")]):
        values = {
            "evaluation/return": [[k + 1.0, k + 2.0, k + 3.0]],
            "own": [[1.0] * 3],
        }
        own = {"optimizer__learning_rate": rate, "agent": agent}
        write_run(home / "s" / str(k), values, seeds=range(3), steps=(5,), **own)
    return home / "s"


def test_a_table(sweep, command):
    status, out, err = command("table", "s")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "evaluation/return: interquartile mean of the final values of n runs",
        "(95 % bootstrap interval)",
        "",
        "agent  lr=0.1            lr=0.2",
        "a      2 (1 to 3) n=3 =  4 (3 to 5) n=3 =",
        "b      3 (2 to 4) n=3 *  5 (4 to 6) n=3 *",
        "",
        "* best of its column; = not told from it at 5 % (permutations, Holm)",
    ]


def test_its_options(sweep, command):
    argv = ("--rows", f"agent,{RATE}", "--metric", "own", "--statistic", "mean")
    lines = command("table", "s", *argv, "--format", "csv").out.splitlines()
    head = f"agent,{RATE},metric,statistic,value,low,high,n,mark"
    assert lines == [
        head,
        *(
            f"{at},own,mean,1.0,1.0,1.0,3,"
            for at in ("a,0.1", "b,0.1", "a,0.2", "b,0.2")
        ),
    ]
    for form, word in (("latex", "\\begin{tabular}"), ("markdown", "| --- |")):
        assert word in command("table", "s/0", "s/1", "--format", form).out


def test_what_has_not_finished_and_what_was_repeated_is_told(sweep, command, home):
    (sweep / "0" / "summary.json").unlink()
    write_run(home / "again", agent="b", optimizer__learning_rate=0.1, seeds=(0, 1))
    status, _, err = command("table", "s", "again")
    assert status == 0
    assert err.splitlines() == [
        "rl-grads table: 1 of 5 points not finished, taken as far: s/0",
        "rl-grads table: 2 members repeat a config and seed: the last run counts",
    ]


def test_damaged_rows_are_left_out_and_told(sweep, command):
    (sweep / "1" / "metrics.jsonl").write_text("nonsense\n")
    status, out, err = command("table", "s")
    assert status == 0
    assert "left out 1 of 4 folders, with a damaged metrics.jsonl" in err
    assert "b      " in out and "lr=0.1" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("s", "--rows", "agnt"),
            "--rows=agnt: expected a key of s; did you mean 'agent'?",
        ),
        (
            ("s", "--rows", "agent", "--columns", "env.id"),
            f"s: points differ in {RATE} as well; expected it in --rows or --columns",
        ),
        (
            ("s", "--metric", "owm"),
            "--metric=owm: expected a metric of s (evaluation/return, own); did you "
            "mean 'own'?",
        ),
        (("nothing",), "nothing: expected the folder of a run or sweep"),
    ],
)
def test_bad_input_exits_2_with_one_message(sweep, command, argv, message):
    assert command("table", *argv) == (2, "", f"rl-grads table: {message}\n")


def test_a_diverged_run_is_shown(home, command):
    run = write_run(home / "a", {"evaluation/return": [[float("nan")] * 2]}, steps=(5,))
    json.loads((run / "summary.json").read_text())
    out = command("table", "a").out
    assert "- n=2" in out
