"""What every test needs before JAX starts: a CPU with two devices, and no network."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import array_checks

ROOT = Path(__file__).resolve().parent.parent
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def _prepare() -> None:
    """Set the environment of this process and of those that tests start."""
    scratch = tempfile.mkdtemp(prefix=f"rl_grads_{WORKER}_")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["JAX_NUM_CPU_DEVICES"] = "2"
    os.environ |= _compilation_cache() | _trackers(scratch)
    os.environ["MPLBACKEND"] = "Agg"


def _keep_streams_open() -> None:
    """Give absl a stream that it does not close.

    Hydra configures logging and so closes absl's handler, which closes its stream
    unless it is a standard one; at import that would be pytest's capture.
    """
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


def _compilation_cache() -> dict[str, str]:
    """JAX writes it without a lock, so each test process has its own."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax" / WORKER),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _trackers(scratch: str) -> dict[str, str]:
    """Trackers that stay offline and leave nothing in the home folder."""
    folders = ("TRACKIO_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
    return {
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        **{name: f"{scratch}/{name.lower()}" for name in folders},
    }


def _hypothesis() -> None:
    """No deadline, because a first call compiles; the same examples in every CI run."""
    from hypothesis import settings

    settings.register_profile("rl_grads", deadline=None, derandomize=IN_CI)
    settings.load_profile("rl_grads")


array_checks.install()
_prepare()
_keep_streams_open()
_hypothesis()


def failed_skip(report: SimpleNamespace) -> bool:
    """Turn a skip into a failure: CI has every piece, so a missing one is an error."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return False
    reason = report.longrepr[-1] if report.longrepr else "no reason"
    report.outcome, report.longrepr = "failed", f"not run in CI: {reason}"
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that skips fails in CI."""
    report = yield
    if IN_CI:
        failed_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A module that skips itself (`importorskip`) fails in CI."""
    report = yield
    if IN_CI:
        failed_skip(report)
    return report


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """A compiled program keeps memory mapped, and a process may map only so much."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For what a function says itself of a wrong array."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def quick_compiler() -> Iterator[None]:
    """For programs that run for less time than they take to optimise."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """For numbers that single precision cannot tell apart."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_registered():
    """Take away what a test registers."""
    import rl_grads.training.schema  # noqa: F401  It declares the built-in classes.
    from rl_grads import config, register

    components = {kind: dict(known) for kind, known in register._COMPONENTS.items()}
    schemas, numbers = dict(config.SCHEMAS), dict(register._NUMBERS)
    yield
    for kind, known in components.items():
        register._COMPONENTS[kind].clear()
        register._COMPONENTS[kind].update(known)
    config.SCHEMAS.clear()
    config.SCHEMAS.update(schemas)
    register._NUMBERS.clear()
    register._NUMBERS.update(numbers)
    register._declare_own()
