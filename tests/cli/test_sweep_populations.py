"""Points of one structure train in one program, and are what each would be alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rl_grads.tracking import sweep as sweeps
from rl_grads.tracking.lease import Lease
from rl_grads.tracking.shown import shown
from rl_grads.training import session

ROOT = Path(__file__).parents[2]
RATES = "optimizer.learning_rate=1e-3,1e-2"
SMALL = ("network=mlp", "network.hidden=[8]", "run.id=s")


@pytest.fixture
def swept(train, home):
    """`sweeps/s`: two points of two seeds, with their last checkpoint."""
    status, _, err = train("-m", *SMALL, RATES, "checkpoint.interval=44")
    assert status == 0, err
    return home / "sweeps" / "s"


def rows(point):
    return (point / "metrics.jsonl").read_bytes()


def undone(sweep):
    """Make it look as if the process had died behind its last checkpoint."""
    for point in sweep.glob("[0-9]"):
        for name in ("summary.json", "parameters.npz"):
            (point / name).unlink()
        lines = rows(point).splitlines(keepends=True)
        # It stands at step 44, of two members.
        (point / "metrics.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:9])


def test_a_point_is_what_hydras_own_sweeper_would_make_of_it(train, home, swept):
    other = ("hydra/sweeper=basic", *SMALL[:2], "run.id=b", "checkpoint.interval=44")
    status, _, err = train("-m", *other, RATES)
    assert status == 0, err
    for number in ("0", "1"):
        ours, theirs = swept / number, home / "sweeps" / "b" / number
        assert rows(ours) == rows(theirs)
        for name in ("config.json", "summary.json"):
            one, two = (json.loads((p / name).read_text()) for p in (ours, theirs))
            timed = {"wall_s", "compile_s", "steps_per_s"}
            assert one.keys() == two.keys()
            assert all(one[k] == two[k] for k in one.keys() - timed)
        hydra = (OmegaConf.load(p / ".hydra/hydra.yaml") for p in (ours, theirs))
        one, two = (OmegaConf.to_container(h, resolve=False)["hydra"] for h in hydra)
        for section in (one, two):
            for key in ("sweep", "sweeper", "overrides", "launcher", "hydra_logging"):
                section.pop(key)
            for key in ("output_dir", "choices", "config_sources"):
                section["runtime"].pop(key)
            section["job"].pop("id")
            section["job"].pop("override_dirname")
        assert one == two
        files = (OmegaConf.load(p / ".hydra/config.yaml") for p in (ours, theirs))
        one, two = (OmegaConf.to_container(c, resolve=False) for c in files)
        assert one.pop("run")["id"] == "s" and two.pop("run")["id"] == "b"
        assert one == two
        told = OmegaConf.load(ours / ".hydra/overrides.yaml")
        assert f"optimizer.learning_rate={('0.001', '0.01')[int(number)]}" in told


def test_numbers_share_a_population_and_structures_do_not(train, home):
    sizes = "network.hidden=[8],[4]"
    status, out, err = train("-m", "network=mlp", "run.id=s", RATES, sizes)
    assert status == 0, err
    found = sweeps.read(home / "sweeps" / "s")
    assert found.populations() == {"population-0": [0, 2], "population-1": [1, 3]}
    assert [e.overrides[1] for e in found.entries] == [
        "network.hidden=[8]",
        "network.hidden=[4]",
    ] * 2
    assert "4 of 4 points done, populations: 2" in out
    document = json.loads((home / "sweeps/s/1/run.json").read_text())
    assert document["population"] == "../population-1"
    assert document["members"] == [0, 1]
    assert document["status"] == "finished"


def test_a_population_is_cut_at_points(train, home):
    rates = "optimizer.learning_rate=1e-3,2e-3,3e-3"
    most = "sweep.members_per_job=4"
    status, _, err = train("-m", *SMALL, rates, most)
    assert status == 0, err
    found = sweeps.read(home / "sweeps" / "s").populations()
    assert found == {"population-0": [0, 1], "2": [2]}


def test_one_population_of_a_sweep_alone(train, home):
    sizes = "network.hidden=[8],[4]"
    argv = ("-m", "network=mlp", "run.id=s", sizes, "resume=auto")
    status, out, err = train(*argv, "sweep.population=1")
    assert status == 0, err
    assert "1 of 2 points done" in out
    assert not (home / "sweeps/s/0/metrics.jsonl").exists()
    status, out, err = train(*argv, "sweep.population=0")
    assert status == 0, err
    assert "2 of 2 points done" in out
    status, out, err = train(*argv)
    assert status == 0, err
    assert out.count("finished before") == 2


# -------------------------------------------------------------------- going on with it


def test_a_killed_sweep_goes_on_bit_for_bit(train, swept):
    before = [rows(swept / number) for number in "01"]
    undone(swept)
    again = ("-m", *SMALL, RATES, "checkpoint.interval=44", "resume=auto")
    status, out, err = train(*again)
    assert status == 0, err
    assert [rows(swept / number) for number in "01"] == before
    assert "2 of 2 points done" in out
    status, out, err = train(*again)
    assert status == 0, err
    assert "sweeps/s/population-0: finished before" in out
    assert [rows(swept / number) for number in "01"] == before


def test_a_point_goes_on_with_its_whole_population(train, command, swept):
    before = [rows(swept / number) for number in "01"]
    undone(swept)
    status, _, err = command("train", "resume=sweeps/s/1")
    assert status == 0, err
    assert "sweeps/s/population-0: 2 points, 4 members" in err
    assert [rows(swept / number) for number in "01"] == before


def test_a_point_that_goes_on_is_called_as_before(command, swept, monkeypatch):
    told, describe = [], session._describe
    monkeypatch.setattr(
        session, "_describe", lambda *given: told.append(describe(*given)) or told[-1]
    )
    status, _, err = command("train", "resume=sweeps/s/1", "training.total_steps=60")
    assert status == 0, err
    assert [(shown(run)[0].name, run.group) for run in told] == [
        ("lr=1e-3 · seed 0", "s"),
        ("lr=0.01 · seed 0", "s"),
    ]
    assert {run.company for run in told} == {4}


def test_a_point_is_taken_apart_in_its_population(command, swept):
    status, out, err = command("anatomy", "sweeps/s/1", "--step", "46", "--member", "1")
    assert status == 0, err
    assert "of member 1 (seed 1): a batch of 4" in out
    assert "came out the same, bit for bit" in out


def test_new_points_get_the_next_numbers(train, home, swept):
    before = [rows(swept / number) for number in "01"]
    more = "optimizer.learning_rate=5e-3,1e-3,1e-2"
    status, out, err = train("-m", *SMALL, more, "resume=auto")
    assert status == 0, err
    assert [rows(swept / number) for number in "01"] == before
    found = sweeps.read(swept)
    assert [e.overrides for e in found.entries] == [
        ("optimizer.learning_rate=0.001",),
        ("optimizer.learning_rate=0.01",),
        ("optimizer.learning_rate=0.005",),
    ]
    assert found.populations() == {"population-0": [0, 1], "2": [2]}
    assert "3 of 3 points done, populations: 2" in out


def test_a_population_in_which_somebody_works_is_left_alone(train, swept):
    undone(swept)
    lease = Lease(swept / "population-0")
    try:
        status, out, err = train("-m", *SMALL, RATES, "resume=auto")
    finally:
        lease.release()
    assert status == 0, err
    assert "on this machine works in it, and it is left alone" in out
    assert "0 of 2 points done" in out


# ------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ("seed=0,1",),
            "seed=1: expected ranges without a common seed (0 to 1, 1 to 2)",
        ),
        (
            ("optimizer.learning_rate=1e-3,0.001",),
            "optimizer.learning_rate=0.001: expected it once, it is two points of a "
            "sweep",
        ),
        (
            ("optimizer.learning_rat=1,2",),
            "optimizer.learning_rat=1,2: expected a key of optimizer (learning_rate, "
            "learning_rate_decay, layer_factors, b1, b2, eps, eps_root); did you mean "
            "'optimizer.learning_rate'?",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_at_once(train, home, argv, expected):
    status, _, err = train("-m", *SMALL, *argv)
    assert (status, err) == (2, f"rl-grads train: {expected}\n")
    assert not (home / "sweeps" / "s").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"population": "../../x"}, "points: expected what a sweep of ours records"),
        ({"number": 3}, "points: expected numbers from 0 on, in order"),
        ({"overrides": "x"}, "points: expected what a sweep of ours records"),
    ],
)
def test_an_odd_sweep_file_is_one_line(train, swept, change, expected):
    path = swept / "sweep.json"
    document = json.loads(path.read_text())
    document["points"][0] |= change
    path.write_text(json.dumps(document))
    status, _, err = train("-m", *SMALL, RATES, "resume=auto")
    assert (status, err) == (2, f"rl-grads train: sweeps/s/sweep.json: {expected}\n")


# ------------------------------------------------------------------------ other engines


@pytest.mark.slow
def test_a_launcher_trains_populations_in_processes_of_its_own(tiny, home):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    engine = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    rates = "optimizer.learning_rate=1e-3,1e-2,-1"
    argv = ("-m", "network=mlp", "network.hidden=[8],[4]", "run.id=s", rates, *engine)
    done = subprocess.run(
        [sys.executable, "-m", "rl_grads.cli.main", "train", *tiny, *argv],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr  # Two points are refused.
    assert done.stderr.count("4 members; CPU, 1 of its cores as devices") == 2
    assert "4 of 6 points done, populations: 2" in done.stdout
    assert "Launching" not in done.stdout + done.stderr
