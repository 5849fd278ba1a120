"""The command line inside the test's own process, in an empty working directory."""

import contextlib
import logging
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

# Four updates and two rows. Runs that differ in numbers alone compile once.
TINY = (
    "seeds=2",
    "training.num_envs=2",
    "training.updates_per_iteration=1",
    "training.total_steps=48",
    "training.total_episodes=null",
    "training.warmup_steps=40",
    "training.batch_size=4",
    "evaluation.episodes=1",
    "evaluation.interval=null",
    "evaluation.max_steps=20",
    "tracking.interval=44",
    "tracking.progress=false",
    "tracking.trackio=false",
    "tracking.wandb.mode=disabled",
)


class Outcome(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


@pytest.fixture
def command(home, capsys):
    """Run `rl-grads ARGUMENT ...` here; its exit status and what it printed."""
    import jax

    from rl_grads.cli.main import main

    x64 = jax.config.jax_enable_x64
    with _loggers():
        yield lambda *argv: Outcome(main(list(argv)), *capsys.readouterr())
    jax.config.update("jax_enable_x64", x64)


@pytest.fixture
def tiny():
    """Overrides that make a run short."""
    return TINY


@pytest.fixture
def train(command):
    """Run `rl-grads train` with overrides that make it short."""
    return lambda *argv: command("train", *TINY, *argv)


@contextlib.contextmanager
def _loggers():
    """Close the log files that Hydra opens, and put the handlers back."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def registry():
    """Forget at the end what the test has registered and imported."""
    from hydra.core.config_store import ConfigStore

    import rl_grads.training.schema  # noqa: F401  It declares the built-in classes.
    from rl_grads import config, register

    components = {kind: dict(v) for kind, v in register._COMPONENTS.items()}
    schemas, modules, path = dict(config.SCHEMAS), set(sys.modules), list(sys.path)
    numbers = dict(register._NUMBERS)
    yield register
    repo = ConfigStore.instance().repo
    for name in set(config.SCHEMAS) - set(schemas):
        group, _, option = name.partition("/")
        repo[group].pop(f"{option}.yaml", None)
        repo[group]["schema"].pop(f"{option}.yaml", None)
    for kind, known in components.items():
        register._COMPONENTS[kind] = known
    config.SCHEMAS.clear()
    config.SCHEMAS.update(schemas)
    register._NUMBERS.clear()
    register._NUMBERS.update(numbers)
    register._declare_own()
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("foreign_"):
            del sys.modules[name]
