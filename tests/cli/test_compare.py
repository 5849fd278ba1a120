"""`rl-grads compare`."""

import pytest

from tests.results.made_runs import write_run


@pytest.fixture
def sweep(home):
    """Two agents with eight runs each; one run of a is above one of b."""
    for k, name in enumerate("ab"):
        values = [*range(7 * k, 7 * k + 8)]
        rows = {"evaluation/return": [values, values]}
        write_run(home / "s" / str(k), rows, seeds=range(8), agent=name)
    return home / "s"


def test_a_comparison(sweep, command):
    status, out, err = command("compare", "s", "--by", "agent")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "evaluation/return (higher is better) by agent; 95 % bootstrap intervals; p by",
        "permutation",
        "",
        "b against a",
        "                  probability     difference of means  p",
        "final value       .99 (.97 to 1)  7 (4.875 to 9.125)   .0002",
        "area under curve  .99 (.97 to 1)  7 (4.875 to 9.125)   .0002",
        "b beats a with probability .99 (.97 to 1), n = 8 and 8.",
    ]


def test_what_is_left_out_is_told(sweep, command, home):
    (sweep / "0" / "summary.json").unlink()
    write_run(home / "s" / "2", {}, steps=())
    (home / "s" / "3").mkdir()
    status, out, err = command("compare", "s", "--by", "agent", "--baseline", "b")
    assert status == 0 and "a against b" in out
    assert err.splitlines() == [
        "rl-grads compare: left out 1 of 3 folders, with no rows yet: s/2",
        "rl-grads compare: 1 of 2 points not finished, taken as far: s/0",
    ]


def test_bad_input_exits_2_with_one_message(sweep, command, capsys):
    status, out, err = command("compare", "s", "--by", "agnt")
    message = "--by=agnt: expected a key of s; did you mean 'agent'?"
    assert (status, out, err) == (2, "", f"rl-grads compare: {message}\n")
    with pytest.raises(SystemExit) as stopped:
        command("compare", "s")
    assert stopped.value.code == 2
    assert "--by" in capsys.readouterr().err
