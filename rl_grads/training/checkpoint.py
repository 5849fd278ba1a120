"""Checkpoints: the whole state of a population as one pytree, saved by orbax.

A checkpoint holds the members (without padding), the iteration, the seeds, the byte
offset of `metrics.jsonl` at that moment, and shape and checksum of every array, so that
a flipped bit is noticed and a resumed run continues its files exactly.
"""

import contextlib
import gc
import logging
import pathlib
import sys
import textwrap
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads.config import ConfigError


class Saved(NamedTuple):
    """What a checkpoint holds; see the module."""

    iteration: int
    offset: int
    seeds: tuple[int, ...]
    members: Any


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: The run's directory; they lie in `checkpoints/` below it.
        keep: How many of the newest are kept.

    Example:
        >>> checkpoints = Checkpoints(run_dir)                     # doctest: +SKIP
        >>> checkpoints.save(Saved(100, 0, (0, 1), members))       # doctest: +SKIP
        >>> checkpoints.restore(members, (0, 1)).iteration         # doctest: +SKIP
        100
    """

    def __init__(self, directory: pathlib.Path, keep: int = 1):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._home = pathlib.Path(directory)
        self._manager = ocp.CheckpointManager(
            self._home.absolute() / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def save(self, saved: Saved) -> None:
        """Save without waiting for the disk; the arrays are copied at once."""
        leaves = _host_leaves(saved.members)
        meta = {
            "offset": saved.offset,
            "seeds": list(saved.seeds),
            "arrays": {name: _describe(leaf) for name, leaf in leaves.items()},
            "checksums": {name: _checksum(leaf) for name, leaf in leaves.items()},
        }
        arguments = self._ocp.args.Composite(
            members=self._ocp.args.StandardSave(leaves),
            meta=self._ocp.args.JsonSave(meta),
        )
        self._manager.save(saved.iteration, args=arguments)

    def iterations(self) -> list[int]:
        """The iterations of all checkpoints that are kept, in order."""
        return sorted(self._manager.all_steps())

    def restore(
        self, like: Any, seeds: tuple[int, ...], iteration: int | None = None
    ) -> Saved:
        """A checkpoint.

        Args:
            like: Members (without padding) of the same structure and shapes.
            seeds: Their seeds.
            iteration: Which; None: the newest.

        Raises:
            ConfigError: There is none, it does not fit the config, or it is damaged.
        """
        if iteration is None:
            iteration = self._manager.latest_step()
        if iteration is None:
            self._refuse("expected a run with checkpoints")
        args = self._ocp.args
        meta = self._read(iteration, "meta", args.JsonRestore())
        shapes = _shapes(like)
        self._check_fit(meta, shapes, seeds)
        leaves = self._read(iteration, "members", args.StandardRestore(shapes))
        self._check_intact(meta["checksums"], leaves)
        members = _rebuild(like, leaves)
        return Saved(iteration, meta["offset"], seeds, members)

    def remove_all(self) -> None:
        """Remove every checkpoint."""
        self._manager.wait_until_finished()
        for step in self._manager.all_steps():
            self._manager.delete(step)

    def close(self) -> None:
        """Wait for the disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _read(self, iteration: int, item: str, argument: Any) -> Any:
        """One item; whatever goes wrong on the way, the checkpoint cannot be used."""
        args = self._ocp.args.Composite(**{item: argument})
        try:
            with _first_error_only():
                return self._manager.restore(iteration, args=args)[item]
        except Exception as error:
            reason = textwrap.shorten(str(error), 80, placeholder=" ...")
            self._refuse(f"expected an intact checkpoint ({reason})", error)

    def _check_fit(
        self,
        meta: Mapping[str, Any],
        shapes: Mapping[str, jax.ShapeDtypeStruct],
        seeds: tuple[int, ...],
    ) -> None:
        if list(seeds) != meta["seeds"]:
            self._refuse(f"expected the seeds {meta['seeds']}, got {list(seeds)}")
        wanted = {name: _describe(shape) for name, shape in shapes.items()}
        saved = meta["arrays"]
        for name in (*saved, *wanted):
            there, here = saved.get(name), wanted.get(name)
            if there != here:
                self._refuse(
                    f"expected the config of the run; its checkpoint has {name}: "
                    f"{there or 'nothing'}, this config {here or 'nothing'}"
                )

    def _check_intact(
        self, checksums: Mapping[str, int], leaves: Mapping[str, Any]
    ) -> None:
        for name, leaf in leaves.items():
            if _checksum(leaf) != checksums[name]:
                self._refuse(
                    f"expected an intact checkpoint, but {name} has changed on the disk"
                )

    def _refuse(self, expected: str, cause: Exception | None = None) -> NoReturn:
        raise ConfigError(f"resume={self._home}: {expected}") from cause


@contextlib.contextmanager
def _first_error_only() -> Iterator[None]:
    """Orbax reads many arrays at once; after a failure the others complain as well."""
    hook, log = sys.unraisablehook, logging.getLogger("asyncio")
    level = log.level
    sys.unraisablehook = lambda unraisable: None
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception:
        time.sleep(0.2)  # Reads that are still under way end in a closed loop.
        gc.collect()
        raise
    finally:
        sys.unraisablehook = hook
        log.setLevel(level)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves by their path."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in paths
    }


def _host_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Copies of all arrays by their path; PRNG keys as their data."""
    return {
        name: np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for name, leaf in _named(tree).items()
    }


def _shapes(tree: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of what `_host_leaves` makes."""

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        if _is_key(leaf):
            return jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    return {name: shape(leaf) for name, leaf in _named(tree).items()}


def _rebuild(like: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree of `like` with the saved values."""
    values = [
        jax.random.wrap_key_data(jnp.asarray(leaves[name]))
        if _is_key(leaf)
        else np.asarray(leaves[name])
        for name, leaf in _named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), values)


def _describe(leaf: Any) -> str:
    """Type and shape, as `float32[10, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def _checksum(leaf: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).tobytes())
