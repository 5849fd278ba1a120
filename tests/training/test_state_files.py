"""A checkpoint that is not as it was written is not used, and the reason is said."""

import io
import json
import os
import re
import zipfile

import numpy as np
import pytest

from rl_grads.training import state_files
from tests.training.saved_members import SEEDS, members, refusal


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


def replaced(two, *entries, kind=zipfile.ZIP_STORED):
    """Put other entries into the state, with a manifest that fits."""
    with zipfile.ZipFile(two / "state.npz", "w", kind) as archive:
        for number, content in enumerate(entries):
            archive.writestr(f"{number}.npy", content)
    document = json.loads((two / "manifest.json").read_text())
    document.pop("sha256")
    document["state"] = state_files._measure(two / "state.npz")
    (two / "manifest.json").write_text(signed(document))


def npy(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def header(shape, descr="<f4"):
    content = io.BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, about)
    return content.getvalue()


def test_what_is_pickled_stays_so(two, open_checkpoints, caplog, tmp_path):
    replaced(two, npy(np.array([Act(tmp_path / "mark")])))
    the_older_one(open_checkpoints, caplog, "state.npz is damaged")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.zeros((2, 3), np.float64)), r"0\.npy is float64\[2, 3\]"),
        (npy(np.zeros((3, 2), np.float32)), r"0\.npy is float32\[3, 2\]"),
        (header((10**15,)), "damaged"),
        (header((2**62, 2**62)), "damaged"),
        (header((2, 3)), "damaged"),
        (header((2, 3), "O"), "damaged"),
        (b"", "damaged"),
    ],
)
def test_an_array_of_another_kind(two, open_checkpoints, caplog, content, reason):
    replaced(two, content)
    the_older_one(open_checkpoints, caplog, f"state.npz is damaged .*{reason}|{reason}")


def test_what_unpacks_to_much_more_is_not_unpacked(two, open_checkpoints, caplog):
    replaced(two, npy(np.zeros(10**8, np.uint8)), kind=zipfile.ZIP_DEFLATED)
    assert (two / "state.npz").stat().st_size < 10**6
    the_older_one(open_checkpoints, caplog, r"0\.npy has 100,000,128 bytes")


def test_a_packed_entry_with_a_fault(two, open_checkpoints, caplog):
    replaced(two, npy(np.zeros((2, 3), np.float32)), kind=zipfile.ZIP_DEFLATED)
    content = bytearray((two / "state.npz").read_bytes())
    content[35:45] = b"\xff" * 10
    (two / "state.npz").write_bytes(content)
    document = json.loads((two / "manifest.json").read_text())
    document.pop("sha256")
    document["state"] = state_files._measure(two / "state.npz")
    (two / "manifest.json").write_text(signed(document))
    the_older_one(open_checkpoints, caplog, "state.npz is damaged .*invalid")


def test_another_config_is_told_before_the_arrays_are_read(two, open_checkpoints):
    (two / "state.npz").write_bytes(b"")
    text = refusal(open_checkpoints(), members(width=4))
    assert "has zeta.w: float32[2, 3], this config float32[2, 4]" in text


class Act:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)
