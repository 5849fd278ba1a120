"""The self-tuning experiment: what its table says, and a run on little data."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import rl_grads as rg
from rl_grads.studies.tuning import RETURN, Outcome

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2] / "experiments" / "meta_self_tuning.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("experiments_self_tuning", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(areas, learned=None):
    """Seeds with these returns, all through; and what they learned at the end."""
    rows = {RETURN: np.array([[area, area] for area in areas])}
    for path, last in (learned or {}).items():
        rows[f"learned/{path}"] = np.array([[0.5, x] for x in last])
    return Outcome(rg.Config(), np.array([10, 20]), rows)


def test_the_table_by_hand(experiment):
    learned = {experiment.RATE: [0.001, 0.002, 0.004, 0.008]}
    arms = {
        "not learned": outcome([50.0, 50.0, 50.0, 50.0]),
        "K = 1": outcome([150.0, 150.0, 150.0, 150.0], learned),
    }
    best = outcome([200.0, 200.0, 200.0, 200.0])
    found = experiment.Study(best, {"low": arms}, {1: 0.01})
    rows = experiment.table(found).splitlines()
    assert len(rows) == 5
    assert rows[2].startswith("| tuned | best fixed | 200 (200 to 200) | 1 | 0.001 |")
    assert rows[3].startswith("| low | not learned | 50 (50 to 50) | 0.25 (0.25 to 0.2")
    # Quartiles of 1, 2, 4, 8: 1.75, 3 and 5.
    assert "0.75 (0.75 to 0.75) | 0.003 (0.00175 to 0.005) |" in rows[4]


TINY = (
    "training.total_steps=80",
    "training.warmup_steps=40",
    "training.batch_size=4",
    "evaluation.episodes=1",
    "evaluation.interval=40",
    "evaluation.max_steps=20",
    "tracking.interval=20",
    "network.hidden=[4]",
)


def test_the_experiment_runs(experiment, quick_compiler, tmp_path, capsys, monkeypatch):
    # Six members each, so that what is alike compiles once.
    monkeypatch.setattr(experiment, "FIXED", {experiment.RATE: (1e-3, 1e-2)})
    monkeypatch.setattr(experiment, "OUTER_RATES", (0.02,))
    monkeypatch.setattr(experiment, "STEPS", (5,))
    picture = tmp_path / "self_tuning.png"
    experiment.main([str(picture), "--seeds=3", "--tuning=3", *TINY])
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in out.splitlines()]
    arms = [row[:2] for row in rows if row[0].startswith("30 times")]
    labels = ["not learned", "K = 5"]
    assert arms == [[start, one] for start in experiment.STARTS for one in labels]
    still, learned = rows[3], rows[4]
    assert still[4:] == ["1e-05", "0.99", "10"]
    assert not learned[4].startswith("1e-05 ")
    assert "outer step sizes: 0.02 (K = 5)" in out
