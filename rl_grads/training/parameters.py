"""Final parameters of a population."""

import pathlib
from typing import Any

import jax
import numpy as np


def save(path: pathlib.Path, params: Any, average: Any) -> None:
    """Write them."""
    leaves = {}
    for name, tree in (("params", params), ("average", average)):
        for place, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            key = jax.tree_util.keystr(place, simple=True, separator=".")
            leaves[f"{name}/{key}"] = np.asarray(leaf)
    np.savez(path, **leaves)
