"""Checkpoints: the whole state of a population as one pytree, saved by orbax.

A checkpoint holds the members (without padding), the iteration, the byte offset of
`metrics.jsonl` at that moment, and a checksum per array, so that a flipped bit is
noticed and a resumed run continues its files exactly.
"""

import pathlib
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads.config import ConfigError


class Saved(NamedTuple):
    """What a checkpoint holds; see the module."""

    iteration: int
    offset: int
    members: Any


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: The run's directory; they lie in `checkpoints/` below it.
        keep: How many of the newest are kept.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 1):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._manager = ocp.CheckpointManager(
            pathlib.Path(directory).absolute() / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def save(self, saved: Saved) -> None:
        """Save without waiting for the disk; the arrays are copied at once."""
        leaves = _host_leaves(saved.members)
        meta = {
            "offset": saved.offset,
            "checksums": {name: _checksum(leaf) for name, leaf in leaves.items()},
        }
        arguments = self._ocp.args.Composite(
            members=self._ocp.args.StandardSave(leaves),
            meta=self._ocp.args.JsonSave(meta),
        )
        self._manager.save(saved.iteration, args=arguments)

    def restore(self, like: Any) -> Saved:
        """The newest checkpoint.

        Args:
            like: Members (without padding) of the same structure and shapes.

        Raises:
            ConfigError: There is none, it does not fit the config, or it is damaged.
        """
        iteration = self._manager.latest_step()
        if iteration is None:
            raise ConfigError(f"resume={self._home()}: expected a run with checkpoints")
        args = self._ocp.args
        wanted = _host_leaves(like)
        shapes = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in wanted.items()}
        loaded = self._manager.restore(
            iteration,
            args=args.Composite(
                members=args.StandardRestore(shapes), meta=args.JsonRestore()
            ),
        )
        leaves = {name: np.asarray(leaf) for name, leaf in loaded["members"].items()}
        self._verify(leaves, loaded["meta"]["checksums"])
        members = _rebuild(like, leaves)
        return Saved(iteration, loaded["meta"]["offset"], members)

    def _verify(self, leaves: dict[str, np.ndarray], checksums: dict[str, int]) -> None:
        for name, leaf in leaves.items():
            if _checksum(leaf) != checksums[name]:
                raise ConfigError(
                    f"resume={self._home()}: expected an intact checkpoint, "
                    f"but {name} has changed on the disk"
                )

    def _home(self) -> pathlib.Path:
        return pathlib.Path(str(self._manager.directory)).parent

    def close(self) -> None:
        """Wait for the disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _host_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Copies of all arrays by their path; PRNG keys as their data."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.array(
            jax.random.key_data(leaf) if _is_key(leaf) else leaf
        )
        for path, leaf in paths
    }


def _rebuild(like: Any, leaves: dict[str, np.ndarray]) -> Any:
    """The tree of `like` with the saved values."""
    old, structure = jax.tree.flatten(like)
    new = [
        jax.random.wrap_key_data(data) if _is_key(leaf) else data
        for leaf, data in zip(old, leaves.values(), strict=True)
    ]
    return jax.tree.unflatten(structure, new)


def _checksum(leaf: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).tobytes())
