"""Final parameters come back bit for bit, and other files are refused."""

import io
import os

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


def test_without_an_average_there_is_none(tmp_path):
    save(tmp_path / "p.npz", PARAMS)
    assert list(load(tmp_path / "p.npz")) == ["params/params.Dense_0.kernel"]


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(
        ConfigError, match=r"p\.npz: expected parameters \(No such file"
    ):
        load(path)
    save(path, PARAMS)
    whole = path.read_bytes()
    pickled = io.BytesIO()
    np.savez(pickled, x=np.array([os.system], object))
    for content in (b"", b"x", whole[:-30], whole[:40], pickled.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"p\.npz: expected "):
            load(path)
