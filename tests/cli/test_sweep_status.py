"""`rl-grads sweep plan` and `rl-grads status`: a sweep that many processes share."""

import json
import shlex

import pytest

from rl_grads.tracking.lease import Lease

ARGV = ("network=mlp", "network.hidden=[8],[4]", "run.id=s")


@pytest.fixture
def planned(command, home, tiny):
    """The commands of a sweep of two structures, which is laid out below `sweeps/s`."""
    status, out, err = command("sweep", "plan", *tiny, *ARGV)
    assert (status, err) == (0, "")
    return [shlex.split(line) for line in out.splitlines()]


def test_a_plan_is_a_command_for_each_population(command, planned):
    assert [argv[:3] for argv in planned] == [["rl-grads", "train", "-m"]] * 2
    ends = [argv[-3:] for argv in planned]
    assert ends == [
        ["run.id=s", "resume=auto", f"sweep.population={k}"] for k in range(2)
    ]
    assert command("status", "sweeps/s").out.splitlines()[:2] == [
        "sweeps/s: 2 points, populations: 2",
        "2 waiting",
    ]


def test_every_command_of_a_plan_does_its_part_once(command, home, planned):
    for argv in (planned[1], planned[0], planned[1]):
        status, out, err = command(*argv[1:])
        assert status == 0, err
    assert "sweeps/s/1: finished before" in out
    assert command("status", "sweeps/s").out.splitlines() == [
        "sweeps/s: 2 points, populations: 2",
        "2 done",
    ]


def test_points_that_are_not_done_say_why(command, home, planned):
    sweep = home / "sweeps" / "s"
    (sweep / "0" / "metrics.jsonl").write_text(
        '{"step": 44, "member": 0, "seed": 0, "x": 1.0}\n{"step": 48'
    )
    (sweep / "0" / "config.json").write_text(
        json.dumps({"config": {"training.total_steps": 48_000}})
    )
    (sweep / "1" / "run.json").write_text(
        json.dumps({"status": "failed", "reason": "ValueError: a mistake"})
    )
    lines = command("status", "sweeps/s").out.splitlines()
    assert lines[1:4] == [
        "1 stopped, 1 failed",
        "point 0 (network.hidden=[8]): stopped: step 44 of 48,000",
        "point 1 (network.hidden=[4]): failed: ValueError: a mistake",
    ]
    assert lines[4].startswith("to go on: rl-grads train -m ")
    (sweep / "1" / "summary.json").write_text(
        json.dumps({"status": "diverged", "diverged": {"1": 46}})
    )
    lease = Lease(sweep / "0")
    try:
        lines = command("status", "sweeps/s").out.splitlines()
    finally:
        lease.release()
    assert lines[1] == "1 diverged, 1 running"
    assert lines[2].startswith(
        "point 0 (network.hidden=[8]): running: step 44 of 48,000, process "
    )
    assert lines[3] == "point 1 (network.hidden=[4]): diverged: member 1 at step 46"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ("status", "sweeps/t"),
            "rl-grads status: sweeps/t: expected the folder of a sweep; did you mean "
            "'sweeps/s'?",
        ),
        (("sweep", "plant"), "rl-grads sweep plant: expected plan"),
        (
            ("sweep", "plan", "seed=0,10"),
            "rl-grads sweep plan: run.id: expected run.id=NAME, which every job has",
        ),
    ],
)
def test_bad_input_is_one_message(command, planned, argv, expected):
    status, _, err = command(*argv)
    assert (status, err) == (2, f"{expected}\n")
