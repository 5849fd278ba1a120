import pathlib

import pytest

from rl_grads.tracking import Run
from rl_grads.tracking.schema import Tracking, WandB

CREDENTIALS = ("API_KEY", "IDENTITY_TOKEN_FILE", "MODE", "BASE_URL", "DIR")


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """A user without credentials, settings or earlier runs."""
    for name in CREDENTIALS:
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    (tmp_path / "home").mkdir()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Trackio's store in a folder of the test."""
    import trackio.fragments
    import trackio.sqlite_storage
    import trackio.utils

    folder = tmp_path / "store"
    for module in (trackio.utils, trackio.sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", folder)
    monkeypatch.setenv("TRACKIO_STORAGE_MODE", "sqlite")
    return trackio.sqlite_storage.SQLiteStorage


@pytest.fixture
def make_run(tmp_path):
    """Make a run of three members: `make_run("folder", runs=..., mode=...)`."""

    def make(folder="run", trackio=False, runs="auto", **wandb) -> Run:
        directory: pathlib.Path = tmp_path / folder
        directory.mkdir(exist_ok=True)
        online = WandB(**({"mode": "disabled"} | wandb))
        settings = Tracking(trackio=trackio, runs=runs, wandb=online)
        configs = tuple(
            {"seed": 40, "agent": {"discount": 0.99}, "optimizer": {"momentum": m}}
            for m in (0.1, 0.2, 0.3)
        )
        return Run(directory, "walk/today", (40, 41, 42), configs, settings)

    return make
