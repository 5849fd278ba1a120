import pytest

import rl_grads as rg
from rl_grads.agents.schema import MLP
from rl_grads.gradients.schema import Adam
from rl_grads.replay.schema import Replay
from rl_grads.training.checkpoint import Checkpoints, Saved
from tests.training.saved_members import SEEDS, members

TINY = {
    "agent.loss": "double_q_learning",
    "agent.target.polyak": 0.05,
    "training.num_envs": 2,
    "training.total_steps": 240,
    "training.batch_size": 8,
    "training.warmup_steps": 40,
    "evaluation.episodes": 2,
    "evaluation.interval": 120,
    "tracking.interval": 60,
    "tracking.progress": False,
    "tracking.trackio": False,
    "tracking.runs": "none",
}


@pytest.fixture(autouse=True)
def _quickly(quick_compiler):
    """Programs of these tests run for less time than they take to optimise."""


@pytest.fixture
def tiny():
    """Makes small configs: CartPole, 100 updates; `tiny({"path.to.key": value})`."""

    def make(changes=None):
        config = rg.Config(
            network=MLP(hidden=(16,)),
            optimizer=Adam(learning_rate=0.01, learning_rate_decay=0.1),
            replay=Replay(capacity=120),
        )
        return rg.replace(config, TINY | (changes or {}))

    return make


@pytest.fixture
def open_checkpoints(tmp_path):
    """Open the checkpoints in the test's folder; they are closed at its end."""
    opened = []

    def make(**options):
        opened.append(Checkpoints(tmp_path / "run", **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def saved(open_checkpoints):
    """One checkpoint on the disk."""
    checkpoints = open_checkpoints()
    checkpoints.save(Saved(7, 123, SEEDS, members()))
    checkpoints.close()


@pytest.fixture
def two(open_checkpoints, tmp_path):
    """Two checkpoints; the folder of the newer one."""
    checkpoints = open_checkpoints(keep=2)
    for step in (6, 7):
        checkpoints.save(Saved(step, 100 + step, SEEDS, members(scale=float(step))))
    checkpoints.close()
    return tmp_path / "run" / "checkpoints" / "7"
