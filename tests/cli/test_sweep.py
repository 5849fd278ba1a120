"""Sweeps: a folder per point, and one failure does not hide another's result."""

import json

import pytest

from rl_grads.config import ConfigError
from rl_grads.tracking.shown import shown
from rl_grads.training import session


def points(home, experiment="train"):
    """The directories of the only sweep's points, by number."""
    (sweep,) = (home / "sweeps" / experiment).iterdir()
    found = sorted(path for path in sweep.iterdir() if path.name.isdecimal())
    return {path.name: path for path in found}


def files(path):
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


WRITTEN = {
    ".hydra/config.yaml",
    ".hydra/hydra.yaml",
    ".hydra/overrides.yaml",
    "config.json",
    "metrics.jsonl",
    "parameters.npz",
    "run.json",
    "summary.json",
    "train.log",
}


def test_every_point_has_its_own_folder(train, home):
    status, out, err = train("-m", "optimizer.learning_rate=0,1e-3")
    assert status == 0, err
    found = points(home)
    assert list(found) == ["0", "1"]
    assert all(files(path) == WRITTEN for path in found.values())
    assert not (home / "runs").exists()
    first, second = (path / ".hydra" / "overrides.yaml" for path in found.values())
    assert "- optimizer.learning_rate=0\n" in first.read_text()
    assert "- optimizer.learning_rate=0.001\n" in second.read_text()
    rows = [(path / "metrics.jsonl").read_text() for path in found.values()]
    # Same seeds, so equal until the first update has moved the parameters.
    assert rows[0] != rows[1]
    steps = [[json.loads(row)["step"] for row in text.splitlines()] for text in rows]
    assert steps == [[44, 44, 48, 48]] * 2
    seeds = [
        json.loads((p / "summary.json").read_text())["seeds"] for p in found.values()
    ]
    assert seeds == [[0, 1], [0, 1]]
    (sweep,) = (home / "sweeps" / "train").iterdir()
    shown = sweep.relative_to(home)
    assert f"\n{shown}: 2 of 2 points done, populations: 1\n" in out
    assert out.endswith(f"rl-grads report {shown}  # all of it as one page\n")
    assert out.count(" finished  lr=") == 2
    assert f"{shown}/population-0: 2 points, 4 members; CPU" in err


def test_the_mirrors_call_a_point_by_what_is_swept(train, home, monkeypatch):
    monkeypatch.setenv("RATE", "0.125")
    told = []

    def tell(setup, *_):
        told.extend(session._describe(setup, p, {}) for p in setup.group.points)
        raise ConfigError("told, and nothing is trained")

    monkeypatch.setattr(session, "_train", tell)
    train(
        "-m",
        "optimizer.learning_rate=3e-4,'${oc.decode:${oc.env:RATE}}'",
        "replay=buffer,per",
        "run.id=both",
    )
    assert [shown(run)[1].name for run in told] == [
        "lr=3e-4 · replay=buffer · seed 1",
        "lr=3e-4 · replay=per · seed 1",
        "lr=${oc.decode:${oc.env:RATE}} · replay=buffer · seed 1",
        "lr=${oc.decode:${oc.env:RATE}} · replay=per · seed 1",
    ]
    assert {run.group for run in told} == {"both"}


@pytest.mark.parametrize(
    ("sweep", "failed"),
    [
        (
            "env=gymnax/Nope-v1,gymnax/CartPole-v1",
            "rl-grads train: point 0 (env.id=gymnax/Nope-v1): "
            "env.id='gymnax/Nope-v1': ",
        ),
        (
            "agent.discount=1.5,0.9",
            "rl-grads train: point 0 (agent.discount=1.5): agent.discount=1.5: "
            "expected a number in [0, 1]",
        ),
        (
            "agent.loss=td,double_q_learning",
            "rl-grads train: point 0 (agent.loss=td): agent.loss='td': expected a loss "
            "of agent=q_learning",
        ),
    ],
)
def test_a_failing_point_leaves_the_others_their_results(train, home, sweep, failed):
    status, _, err = train("-m", sweep)
    assert status == 2
    assert any(line.startswith(failed) for line in err.splitlines()), err
    assert err.count("rl-grads train: ") == 1
    assert "Traceback" not in err
    bad, good = points(home).values()
    assert "summary.json" not in files(bad)
    assert files(good) == WRITTEN


def test_a_crash_shows_its_traceback_and_the_other_points_run(train, home, monkeypatch):
    from rl_grads.training import run

    started, start = [], run.start

    def crashing(plan):
        started.append(plan)
        if len(started) == 1:
            raise RuntimeError("a mistake")
        return start(plan)

    monkeypatch.setattr(run, "start", crashing)
    status, _, err = train("-m", "gradient.update.clip=agc,global_norm")
    assert status == 1
    assert "Traceback" in err and "in crashing" in err
    message = "point 0 (gradient.update.clip=agc): RuntimeError('a mistake')"
    assert f"rl-grads train: {message}\n" in err
    bad, good = points(home).values()
    assert "summary.json" not in files(bad)
    assert files(good) == WRITTEN


def test_a_plugins_mistake_is_one_line_and_the_other_points_run(train, home, registry):
    (home / "foreign_crash.py").write_text(
        "import rl_grads as rg\n"
        "@rg.register.clip('crash')\n"
        "def crash(config):\n"
        "    raise RuntimeError('a mistake in a clip')\n"
    )
    sweep = "gradient.update.clip=crash,global_norm"
    status, _, err = train("-m", "--plugin", "foreign_crash", sweep)
    assert status == 2
    assert "Traceback" not in err
    message = (
        "point 0 (gradient.update.clip=crash): gradient.update.clip=crash "
        "(foreign_crash.py:2) raised RuntimeError: a mistake in a clip "
        "(foreign_crash.py:4); see docs/extending.md"
    )
    assert f"rl-grads train: {message}\n" in err
    bad, good = points(home).values()
    assert not bad.exists() or "summary.json" not in files(bad)
    assert files(good) == WRITTEN


def test_what_no_point_can_compose_is_refused_at_the_start(train, home):
    status, _, err = train("-m", "optimizer=adam,adamm")
    assert status == 2
    assert err.startswith("rl-grads train: optimizer=adamm: expected one of adam")
    assert not list((home / "sweeps").glob("*/*"))


def test_experiments_are_swept(train, home):
    status, _, err = train("-m", "experiment=train,random_walk")
    assert status == 0, err
    assert [files(path) for path in points(home).values()] == [WRITTEN] * 2


@pytest.mark.slow
def test_environments_are_swept(train, home):
    status, _, err = train("-m", "env=gymnax/CartPole-v1,gymnax/Acrobot-v1")
    assert status == 0, err
    assert [files(path) for path in points(home).values()] == [WRITTEN] * 2
