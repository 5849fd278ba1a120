"""A save that fails is said, and harms neither training nor older checkpoints."""

import concurrent.futures
import errno
import re
import subprocess
import sys
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
        for _ in range(4):
            process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        process.communicate()
        like = {"x": jax.ShapeDtypeStruct((2_000_000,), np.int32)}
        found = Checkpoints(tmp_path / "run").restore(like, (0,))
        np.testing.assert_array_equal(found.members["x"], found.iteration)
        assert found.iteration >= 2
