"""`-m sweep=random` and `sweep=sobol`: points drawn on the scale of their domains."""

import math

import pytest

from rl_grads.tracking import sweep as sweeps

SMALL = ("network=mlp", "network.hidden=[8]", "run.id=s", "sweep.points=4")
RATE = "optimizer.learning_rate=interval(1e-4,1e-2)"


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_points_are_drawn_and_train_in_one_program(train, home, method):
    values = (RATE, "agent.discount=interval(.9,1)", "agent=q_learning,sarsa")
    argv = ("-m", f"sweep={method}", *SMALL, *values[:2])
    status, out, err = train(*argv)
    assert status == 0, err
    assert "4 of 4 points done, populations: 1" in out
    found = sweeps.read(home / "sweeps" / "s")
    rates, discounts = zip(*(entry.overrides for entry in found.entries), strict=True)
    logs = [math.log10(float(r.partition("=")[2])) for r in rates]
    assert all(-4 <= x <= -2 for x in logs) and len(set(logs)) == 4
    assert min(logs) < -3 < max(logs)
    assert all(0.9 <= float(d.partition("=")[2]) <= 1 for d in discounts)
    status, out, err = train(*argv, "resume=auto")
    assert status == 0, err
    assert sweeps.read(home / "sweeps" / "s").entries == found.entries
    assert "finished before" in out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), "sweep=random: expected a key to draw, such as"),
        (
            ("agent.discount=interval(.9,1.5)",),
            "agent.discount=interval(.9,1.5): expected ends in the domain, a number in "
            "[0, 1]",
        ),
        (
            ("agent.discount=interval(1,.9)",),
            "agent.discount=interval(1,.9): expected two numbers, the lower one first",
        ),
        (
            ("agent.dicount=interval(.9,1)",),
            "agent.dicount=interval(.9,1): expected a key with numbers; did you mean "
            "'agent.discount'?",
        ),
        (
            ("sweep=grid", RATE),
            f"{RATE}: expected values to train with, such as .1,.2 or range(1,5); "
            "interval() is for -m sweep=random or sweep=sobol",
        ),
        (("sweep=randm", RATE), "sweep=randm: expected one of grid, random, sobol"),
    ],
)
def test_bad_input_is_one_message(train, argv, expected):
    sweep = () if any(a.startswith("sweep=") for a in argv) else ("sweep=random",)
    status, _, err = train("-m", *sweep, "network=mlp", "run.id=s", *argv)
    assert status == 2
    assert err.startswith(f"rl-grads train: {expected}")
    assert err.count("\n") == 1
