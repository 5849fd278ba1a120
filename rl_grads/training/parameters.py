"""The final parameters of a run's members: `parameters.npz`, small and plain.

Every array has a leading axis of members. Its name is `params/<path>`, or
`average/<path>` where an average of the parameters is kept, as in
`params/params.Dense_0.kernel`.
"""

import io
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from rl_grads import atomic
from rl_grads.config import ConfigError


def save(path: pathlib.Path, params: Any, average: Any = None) -> None:
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


def _named(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        f"{prefix}/{jax.tree_util.keystr(place, simple=True, separator='.')}": np.array(
            leaf
        )
        for place, leaf in paths
    }


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
            return {name: found[name] for name in found.files}
    except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
        raise ConfigError(f"{path}: expected whole parameters, as saved") from None
