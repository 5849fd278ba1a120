"""A save that fails is said, and harms neither training nor older checkpoints."""

import concurrent.futures
import contextlib
import errno
import os
import re
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from rl_grads.tracking.files import CannotWrite
from rl_grads.training import checkpoint, state_files
from rl_grads.training.checkpoint import Checkpoints, Saved
from tests.training.saved_members import SEEDS, members


def blocked(home):
    """Let a file stand where the checkpoints would."""
    home.mkdir()
    (home / "checkpoints").write_text("")
    return home / "checkpoints"


def test_a_save_that_fails_is_said_and_the_next_is_made(
    open_checkpoints, tmp_path, caplog
):
    checkpoints, block = open_checkpoints(), blocked(tmp_path / "run")
    checkpoints.save(Saved(7, 0, SEEDS, members()))
    concurrent.futures.wait([checkpoints._pending])
    block.unlink()
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    (record,) = caplog.records
    assert re.search(r"run/checkpoints.*: cannot be written \(File ", record.message)
    checkpoints.wait()
    assert checkpoints.iterations() == [8]


def test_a_save_that_fails_is_said_by_wait_or_close(open_checkpoints, tmp_path, caplog):
    checkpoints = open_checkpoints()
    blocked(tmp_path / "run")
    checkpoints.save(Saved(7, 0, SEEDS, members()))
    with pytest.raises(CannotWrite, match=r"checkpoints.*: cannot be written \("):
        checkpoints.wait()
    checkpoints.wait()
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    checkpoints.close()
    checkpoints.close()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("function", "error"),
    [("write", MemoryError()), ("write", ValueError("odd\ntext")), ("sync", OSError())],
)
def test_whatever_goes_wrong_names_the_checkpoint(
    two, open_checkpoints, monkeypatch, function, error
):
    def fail(*arguments):
        raise error

    checkpoints = open_checkpoints(keep=2)
    monkeypatch.setattr(state_files, function, fail)
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    with pytest.raises(CannotWrite, match=r"^.*checkpoints/8: cannot be written .*$"):
        checkpoints.wait()
    monkeypatch.undo()
    assert {6, 7} <= set(checkpoints.iterations())


def test_no_memory_for_the_copies_is_no_end_of_training(
    two, open_checkpoints, monkeypatch
):
    def fail(leaf):
        raise MemoryError("Unable to allocate 1. TiB")

    monkeypatch.setattr(checkpoint, "_copy", fail)
    with pytest.raises(CannotWrite, match=r"checkpoints/8: .*MemoryError Unable"):
        open_checkpoints().save(Saved(8, 0, SEEDS, members()))


def test_a_full_disk_leaves_the_older_one_whole(two, open_checkpoints, monkeypatch):
    def full(place, manifest, leaves):
        (place / "state.npz").write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_files, "write", full)
    checkpoints = open_checkpoints(keep=1)
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    with pytest.raises(CannotWrite, match=r"checkpoints/8: .*No space left on device"):
        checkpoints.wait()
    assert sorted(p.name for p in two.parent.iterdir()) == ["6", "7"]
    assert checkpoints.restore(members(), SEEDS).iteration == 7


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("expected a user who may mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("free", range(0, 40_000, 4096))
def test_a_disk_that_is_really_full(small_disk, free):
    """Wherever in a save it becomes full; once there is room again all is well."""
    checkpoints = Checkpoints(small_disk / "run", keep=2)
    state = {"x": np.arange(4096, dtype=np.float32), "y": np.zeros(4096, np.uint8)}
    checkpoints.save(Saved(6, 0, SEEDS, state))
    checkpoints.wait()
    left = os.statvfs(small_disk)
    with open(small_disk / "rest", "wb") as file:
        file.write(bytes(max(0, left.f_bavail * left.f_bsize - free)))
    checkpoints.save(Saved(7, 0, SEEDS, state))
    with contextlib.suppress(CannotWrite) if free > 16_000 else FULL:
        checkpoints.wait()
    kept = checkpoints.iterations()
    assert kept in ([6], [6, 7])
    assert sorted(os.listdir(small_disk / "run/checkpoints")) == [str(i) for i in kept]
    (small_disk / "rest").unlink()
    checkpoints.save(Saved(8, 0, SEEDS, state))
    checkpoints.wait()
    assert checkpoints.restore(state, SEEDS).iteration == 8
    checkpoints.close()


FULL = pytest.raises(CannotWrite, match=r"checkpoints/.*7.*: .*No space left on device")


def test_an_interrupt_in_the_middle_of_a_save(two, open_checkpoints, monkeypatch):
    started, write = threading.Event(), state_files.write

    def late(*arguments):
        assert started.wait(60)
        write(*arguments)

    def interrupt(futures):
        raise KeyboardInterrupt

    monkeypatch.setattr(state_files, "write", late)
    checkpoints = open_checkpoints(keep=2)
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    with monkeypatch.context() as patch:
        patch.setattr(concurrent.futures, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(Saved(9, 0, SEEDS, members()))
        with pytest.raises(KeyboardInterrupt):
            checkpoints.close()
    started.set()
    checkpoints.close()
    checkpoints.close()
    assert checkpoints.iterations() == [7, 8]
    assert checkpoints.restore(members(), SEEDS).iteration == 8


KILLED = """
import pathlib, sys
import numpy as np
from rl_grads.training.checkpoint import Checkpoints, Saved
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]), keep=2)
for step in range(1, 10_000):
    checkpoints.save(Saved(step, step, (0,), {"x": np.full(2_000_000, step, np.int32)}))
    print(step, flush=True)
"""


def test_a_process_killed_while_it_saves_leaves_whole_checkpoints(tmp_path):
    for seconds in (0.0, 0.01, 0.03):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "run")],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        process.communicate()
        like = {"x": jax.ShapeDtypeStruct((2_000_000,), np.int32)}
        found = Checkpoints(tmp_path / "run").restore(like, (0,))
        np.testing.assert_array_equal(found.members["x"], found.iteration)
        assert found.iteration >= 2
