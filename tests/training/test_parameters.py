"""Final parameters come back bit for bit, and other files are refused."""

import io
import os
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import ConfigError
from rl_grads.training.parameters import load, save

PARAMS = {"params": {"Dense_0": {"kernel": np.arange(6.0).reshape(1, 2, 3)}}}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_come_back(tmp_path, dtype):
    params = {"w": np.array([[1 / 3, 2], [3, 4]], dtype)}
    save(tmp_path / "p.npz", params, {"w": params["w"] / 2})
    found = load(tmp_path / "p.npz")
    assert list(found) == ["params/w", "average/w"]
    for name, expected in (("params/w", params["w"]), ("average/w", params["w"] / 2)):
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], expected)


def test_types_that_numpy_has_no_name_for_are_read_as_float32(tmp_path):
    save(tmp_path / "p.npz", {"w": jnp.array([[0.5, -3.0]], "bfloat16")})
    found = load(tmp_path / "p.npz")["params/w"]
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, -3.0]]


def test_without_an_average_there_is_none(tmp_path):
    save(tmp_path / "p.npz", PARAMS)
    assert list(load(tmp_path / "p.npz")) == ["params/params.Dense_0.kernel"]


def archive(name, content, kind=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as entries:
        entries.writestr(name, content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape):
    file = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


def faulty():
    """A packed entry that cannot be unpacked."""
    whole = bytearray(archive("params/x.npy", npy(np.ones(9)), zipfile.ZIP_DEFLATED))
    whole[45:55] = b"\xff" * 10
    return bytes(whole)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        npy(np.ones(3)),
        archive("params/x.npy", npy(np.array([os.system], object))),
        archive("params/x.npy", header((10**15,))),
        archive("params/x.npy", b"text"),
        archive("params/x", b"text"),
        archive("x.npy", npy(np.ones(3))),
        faulty(),
    ],
    ids=range(9),
)
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "p.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.npz: expected whole parameters, as sav"):
        load(path)


def test_a_file_that_is_cut_missing_or_a_folder_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(ConfigError, match=r"npz: expected parameters \(No such file"):
        load(path)
    save(path, PARAMS)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[:40]):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"p\.npz: expected whole"):
            load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"npz: expected parameters \(Is a direct"):
        load(path)
