"""What is saved comes back bit for bit, or is refused with a reason."""

import errno
import io
import json
import os
import re
import string
import subprocess
import sys
import time
import zipfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import ConfigError
from rl_grads.tracking.files import CannotWrite
from rl_grads.training import state_files
from rl_grads.training.checkpoint import Checkpoints, Due, Saved

SEEDS = (4, 5)


class Members(NamedTuple):
    """A state with names out of alphabetical order."""

    zeta: Any
    alpha: Any
    key: Any
    frames: Any
    flag: Any


def members(scale=1.0, width=3, dtype=np.float32):
    """Floats, integers, keys, bytes, flags and an empty part."""
    return Members(
        zeta={"w": (np.arange(2 * width) * scale).reshape(2, width).astype(dtype)},
        alpha=(np.array([1, 2], np.int32), None),
        key=jax.vmap(jax.random.key)(jnp.arange(2) + int(scale)),
        frames=np.arange(2000, dtype=np.uint8).reshape(2, 1000),
        flag=np.array([True, False]),
    )


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


def test_everything_comes_back_in_its_place(open_checkpoints, saved):
    found = open_checkpoints().restore(members(scale=0.0), SEEDS)
    assert found[:3] == (7, 123, SEEDS)
    expected = members()
    assert jax.tree.structure(found.members) == jax.tree.structure(expected)
    assert draws(found.members.key) == draws(expected.key)
    parts = (found.members._replace(key=None), expected._replace(key=None))
    for leaf, other in zip(*map(jax.tree.leaves, parts), strict=True):
        np.testing.assert_array_equal(leaf, other)
        assert leaf.dtype == other.dtype


def draws(keys):
    return jax.vmap(jax.random.bits)(keys).tolist()


def test_abstract_members_do_as_well(open_checkpoints, saved):
    found = open_checkpoints().restore(jax.eval_shape(members), SEEDS)
    np.testing.assert_array_equal(found.members.zeta["w"], members().zeta["w"])


def test_the_newest_are_kept(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints(keep=2)
    for step in (10, 20, 30):
        checkpoints.save(Saved(step, step, SEEDS, members(scale=float(step))))
    checkpoints.close()
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["20", "30"]
    found = open_checkpoints().restore(members(), SEEDS)
    assert found.iteration == found.offset == 30
    assert found.members.zeta["w"][0, 1] == 30.0


def test_arrays_may_change_once_save_has_returned(open_checkpoints):
    checkpoints, state = open_checkpoints(), members()
    checkpoints.save(Saved(7, 0, SEEDS, state))
    state.frames[:] = 0
    checkpoints.close()
    found = open_checkpoints().restore(members(), SEEDS)
    np.testing.assert_array_equal(found.members.frames, members().frames)


# --------------------------------------------------------------------------- refusals


def refusal(checkpoints, like, seeds=SEEDS):
    with pytest.raises(ConfigError) as caught:
        checkpoints.restore(like, seeds)
    text = str(caught.value)
    assert text.startswith("resume=")
    assert "\n" not in text
    return text


def test_a_run_without_checkpoints(open_checkpoints, tmp_path):
    text = refusal(open_checkpoints(), members())
    assert text == f"resume={tmp_path / 'run'}: expected a run with a checkpoint"


def test_another_shape(open_checkpoints, saved):
    text = refusal(open_checkpoints(), members(width=4))
    assert text.endswith(
        "expected the config of the run; its checkpoint has zeta.w: float32[2, 3], "
        "this config float32[2, 4]"
    )


def test_another_precision(open_checkpoints, saved):
    assert "this config float64[2, 3]" in refusal(
        open_checkpoints(), members(dtype=np.float64)
    )


def test_another_structure(open_checkpoints, saved):
    more = members()._replace(zeta=members().zeta | {"target": np.zeros(2)})
    assert "has zeta.target: nothing, this config float64[2]" in refusal(
        open_checkpoints(), more
    )
    less = members()._replace(flag=None)
    assert "has flag: bool[2], this config nothing" in refusal(open_checkpoints(), less)


def test_other_seeds(open_checkpoints, saved):
    text = refusal(open_checkpoints(), members(), (4, 6))
    assert text.endswith("expected the seeds [4, 5], got [4, 6]")


# ----------------------------------------------------------------------------- damage


@pytest.fixture
def two(open_checkpoints, tmp_path):
    """Two checkpoints; the folder of the newer one."""
    checkpoints = open_checkpoints(keep=2)
    for step in (6, 7):
        checkpoints.save(Saved(step, 100 + step, SEEDS, members(scale=float(step))))
    checkpoints.close()
    return tmp_path / "run" / "checkpoints" / "7"


def the_older_one(open_checkpoints, caplog, reason):
    """Nothing but the older checkpoint is used, and the reason is said."""
    caplog.clear()
    found = open_checkpoints().restore(members(), SEEDS)
    assert (found.iteration, found.offset) == (6, 106)
    assert found.members.zeta["w"][0, 1] == 6.0
    (record,) = caplog.records
    assert re.search(rf"checkpoints/7: .*{reason}.*; it is passed over", record.message)


@pytest.mark.parametrize("name", ["state.npz", "manifest.json"])
def test_a_flipped_bit_anywhere_is_noticed(two, open_checkpoints, caplog, name):
    whole = (two / name).read_bytes()
    for place in {0, 1, 10, len(whole) - 1, *range(0, len(whole), len(whole) // 25)}:
        changed = bytes([whole[place] ^ 4])
        (two / name).write_bytes(whole[:place] + changed + whole[place + 1 :])
        the_older_one(open_checkpoints, caplog, name.replace(".", r"\."))
    (two / name).write_bytes(whole)
    assert open_checkpoints().restore(members(), SEEDS).iteration == 7


@pytest.mark.parametrize("name", ["state.npz", "manifest.json"])
def test_what_is_cut_emptied_or_missing_is_noticed(two, open_checkpoints, caplog, name):
    path = two / name
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", whole + b" more"):
        path.write_bytes(content)
        the_older_one(open_checkpoints, caplog, name)
    path.unlink()
    the_older_one(open_checkpoints, caplog, "No such file")
    path.mkdir()
    the_older_one(open_checkpoints, caplog, "Is a directory")


def signed(document):
    """A manifest with a checksum that fits: anybody can make one."""
    return json.dumps({"sha256": state_files._checksum(document), **document})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format 2 is unknown, expected 1"),
        ({"iteration": 8}, "it is that of iteration 8"),
        ({"offset": "x"}, "says something else"),
        ({"offset": -1}, "says something else"),
        ({"seeds": None}, "says something else"),
        ({"seeds": [[1]]}, "says something else"),
        ({"arrays": {"a": 1}}, "says something else"),
        ({"state": {}}, "says something else"),
        ({"state": {"size": 3, "sha256": "0"}}, r"state.npz has [\d,]+ bytes, 3 were"),
    ],
)
def test_a_manifest_of_another_kind(two, open_checkpoints, caplog, changes, reason):
    document = json.loads((two / "manifest.json").read_text())
    document.pop("sha256")
    (two / "manifest.json").write_text(signed(document | changes))
    the_older_one(open_checkpoints, caplog, reason)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "1", "null", "[" * 99999, '{"sha256": 1}']
)
def test_a_manifest_that_is_none(two, open_checkpoints, caplog, text):
    (two / "manifest.json").write_text(text)
    the_older_one(open_checkpoints, caplog, "manifest.json")


def test_one_of_an_earlier_version_is_named(two, open_checkpoints, caplog):
    (two / "manifest.json").unlink()
    (two / "_CHECKPOINT_METADATA").write_text("{}")
    the_older_one(open_checkpoints, caplog, "it is of an earlier version")


def test_where_none_is_intact_all_reasons_are_said(two, open_checkpoints):
    for step in ("6", "7"):
        (two.parent / step / "manifest.json").write_text("{}")
    text = refusal(open_checkpoints(), members())
    assert "expected a run with an intact checkpoint (" in text
    assert "checkpoints/7: manifest.json is damaged" in text
    assert "checkpoints/6: manifest.json is damaged" in text


def test_what_is_pickled_stays_so(two, open_checkpoints, caplog, tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        evil = io.BytesIO()
        np.save(evil, np.array([Act(tmp_path / "mark")]), allow_pickle=True)
        archive.writestr("0.npy", evil.getvalue())
    (two / "state.npz").write_bytes(content.getvalue())
    document = json.loads((two / "manifest.json").read_text())
    document.pop("sha256")
    document["state"] = state_files._measure(two / "state.npz")
    (two / "manifest.json").write_text(signed(document))
    the_older_one(open_checkpoints, caplog, "state.npz is damaged")
    assert not (tmp_path / "mark").exists()


class Act:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


# ------------------------------------------------------------------------- odd places


def test_any_path_will_do(tmp_path):
    names = [c for c in string.printable if c.isprintable() and c != "/"]
    for name in (*(f"a{c}b" for c in names), "[x]", "*", "lr=1e-3,hidden=[8]", "ä 'x'"):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(Saved(7, 0, SEEDS, members()))
        checkpoints.wait()
        assert checkpoints.restore(members(), SEEDS).iteration == 7, name


def test_nothing_is_written_before_the_first_save(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.iterations() == []
    checkpoints.remove_all()
    checkpoints.close()
    assert not (tmp_path / "run").exists()


def test_foreign_folders_are_left_alone(two, open_checkpoints):
    for name in ("x", "²", ".5.part"):
        (two.parent / name).mkdir()
    (two.parent / "9").write_text("")
    checkpoints = open_checkpoints(keep=1)
    assert checkpoints.iterations() == [6, 7]
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    checkpoints.wait()
    assert checkpoints.iterations() == [8]
    assert (two.parent / "9").exists() and (two.parent / "x").exists()


def test_an_iteration_is_saved_again(two, open_checkpoints):
    checkpoints = open_checkpoints(keep=2)
    checkpoints.save(Saved(7, 5, SEEDS, members(scale=9.0)))
    checkpoints.wait()
    found = checkpoints.restore(members(), SEEDS)
    assert (found.iteration, found.offset) == (7, 5)
    assert found.members.zeta["w"][0, 1] == 9.0


def test_a_save_that_fails_is_said_at_the_next(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("")
    checkpoints.save(Saved(7, 0, SEEDS, members()))
    with pytest.raises(CannotWrite, match=r"checkpoints.*: cannot be written \("):
        checkpoints.save(Saved(8, 0, SEEDS, members()))
    checkpoints.wait()


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


# ---------------------------------------------------------------------------- how often


def test_saving_waits_for_its_share_of_the_time():
    due = Due(60.0, now=100.0)
    assert not due(159.9, cost=0.0)
    assert due(160.0, cost=0.0)
    due.saved(160.0)
    assert not due(219.0, cost=0.6)
    assert due(220.0, cost=1.5)
    assert not due(229.0, cost=2.1)  # 2.1 s are 3 % of 70 s.
    assert due(230.0, cost=2.1)
    assert not Due(None, now=0.0)(1e9, cost=0.0)


def test_what_a_save_costs_is_known(open_checkpoints):
    checkpoints = open_checkpoints()
    assert checkpoints.cost == 0.0
    checkpoints.save(Saved(7, 0, SEEDS, {"x": np.zeros((2, 4_000_000), np.uint8)}))
    checkpoints.wait()
    assert 0.001 < checkpoints.cost < 10
