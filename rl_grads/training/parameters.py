"""The final parameters of a run's members: `parameters.npz`, small and plain.

Every array has a leading axis of members. Its name is `params/<path>`, or
`average/<path>` where an average of the parameters is kept, as in
`params/params.Dense_0.kernel`.
"""

import io
import pathlib
from typing import Any

import jax
import numpy as np

from rl_grads import atomic
from rl_grads.config import ConfigError
from rl_grads.typing import Params, PyTree


def save(path: pathlib.Path, params: Params, average: PyTree = None) -> None:
    """Write parameters, whole or not at all.

    Args:
        path: The file.
        params: A tree with leaves `[members, ...]`.
        average: Their average, likewise, or None.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "parameters.npz"
        >>> save(path, {"w": np.ones((2, 3))})
        >>> {name: array.shape for name, array in load(path).items()}
        {'params/w': (2, 3)}
    """
    content = io.BytesIO()
    leaves: dict[str, Any] = _named("params", params) | _named("average", average)
    np.savez(content, **leaves)
    atomic.write_bytes(path, content.getvalue())


def _named(prefix: str, tree: PyTree) -> dict[str, np.ndarray]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        f"{prefix}/{jax.tree_util.keystr(place, simple=True, separator='.')}": _plain(
            leaf
        )
        for place, leaf in paths
    }


def _plain(leaf: PyTree) -> np.ndarray:
    """An array; a type that NumPy's format has no name for (bfloat16) as float32."""
    array = np.array(leaf)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `save` has written, by their names.

    Nothing is unpickled, whatever the file holds.

    Raises:
        ConfigError: It is no such file.
    """
    try:
        content = io.BytesIO(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: expected parameters ({error.strerror})") from None
    try:
        with np.load(content, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except Exception:  # Anybody can write an archive, with any fault.
        arrays = {}
    plain = all(isinstance(array, np.ndarray) for array in arrays.values())
    if not plain or not any(name.startswith("params/") for name in arrays):
        raise ConfigError(f"{path}: expected whole parameters, as saved")
    return arrays
