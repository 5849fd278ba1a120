"""Checkpoints: the whole state of a population, in folders that are whole or not there.

`checkpoints/<iteration>/` holds every array of the members (without padding), the
iteration, the seeds and the bytes of `metrics.jsonl` at that moment (see
`state_files`). The folder gets its name when everything in it is on the disk. Where a
checkpoint is damaged the one before it is used.
"""

import concurrent.futures
import contextlib
import logging
import math
import os
import pathlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads.config import ConfigError
from rl_grads.tracking.files import CannotWrite, writing
from rl_grads.training import state_files
from rl_grads.training.state_files import Damaged
from rl_grads.typing import PyTree

_LOG = logging.getLogger(__name__)
_FOLDER = "checkpoints"
_PART = 0.03  # Of the time, at most, that saving may take.
_LEFT = re.compile(r"\.[0-9]+\.(part|gone)")  # What a killed process has left.


class Saved(NamedTuple):
    """What a checkpoint holds; see the module."""

    iteration: int
    offset: int
    seeds: tuple[int, ...]
    members: Any


class Due:
    """When to save next: after some seconds, or later where saving takes long.

    A save that has cost `t` seconds is not repeated before `t / 0.03` seconds.

    Args:
        seconds: Between two saves; None: never.
        now: The clock's time at the start, in seconds.

    Example:
        >>> due = Due(60.0, now=0.0)
        >>> due(59.0, cost=0.0), due(60.0, cost=0.0)
        (False, True)
        >>> due.saved(60.0)
        >>> due(120.0, cost=3.0), due(160.0, cost=3.0)
        (False, True)
    """

    def __init__(self, seconds: float | None, now: float):
        self._seconds, self._last = seconds, now

    def __call__(self, now: float, cost: float) -> bool:
        """Whether a save is due.

        Args:
            now: The clock's time, in seconds.
            cost: What the last save has cost, see `Checkpoints.cost`.
        """
        if self._seconds is None:
            return False
        return now - self._last >= max(self._seconds, cost / _PART)

    def saved(self, now: float) -> None:
        """Note a save at that time."""
        self._last = now


class Checkpoints:
    """The checkpoints of one run. Nothing is written before the first `save`.

    Args:
        directory: The run's directory; they lie in `checkpoints/` below it.
        keep: How many of the newest are kept.

    Example:
        >>> import tempfile
        >>> checkpoints = Checkpoints(pathlib.Path(tempfile.mkdtemp()))
        >>> members = {"w": jnp.arange(3.0)}
        >>> checkpoints.save(Saved(100, 0, (0, 1), members))
        >>> checkpoints.wait()
        >>> checkpoints.restore(members, (0, 1)).iteration
        100
    """

    def __init__(self, directory: pathlib.Path, keep: int = 1):
        self._run = pathlib.Path(directory)
        self._home, self._keep = self._run.absolute() / _FOLDER, keep
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self._cost = 0.0

    @property
    def cost(self) -> float:
        """What the last save has cost, in seconds; infinite while it is being written.

        The time that `save` took of its thread, and processor time in the background.
        """
        pending = self._pending
        return self._cost if pending is None or pending.done() else math.inf

    # ------------------------------------------------------------------------- writing

    def save(self, saved: Saved) -> None:
        """Save without waiting for the disk; the arrays are copied at once.

        Where the save before this one has failed, a warning says so.

        Raises:
            CannotWrite: There is no memory for the copies.
        """
        began = time.perf_counter()
        self._report()
        with _writing(self._home / str(saved.iteration)):
            leaves = _host_leaves(saved.members)
        spent = time.perf_counter() - began
        self._pending = self._writer.submit(self._work, saved, leaves, spent)

    def wait(self) -> None:
        """Wait until the last save is on the disk.

        Raises:
            CannotWrite: It has failed.
        """
        pending = self._pending
        if pending is None:
            return
        concurrent.futures.wait([pending])  # An interrupt leaves it to the next call.
        self._pending = None
        pending.result()

    def close(self) -> None:
        """Wait for the disk, and say what has failed; closing twice is allowed."""
        self._report()
        self._writer.shutdown()

    def remove_all(self) -> None:
        """Remove every checkpoint, of a run that needs none any more."""
        self.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._home)

    def _report(self) -> None:
        try:
            self.wait()
        except CannotWrite as error:
            _LOG.warning("%s", error)

    def _work(
        self, saved: Saved, leaves: Mapping[str, np.ndarray], spent: float
    ) -> None:
        began, place = time.thread_time(), self._home / str(saved.iteration)
        try:
            with _writing(place):
                self._write(_manifest(saved, leaves), leaves, place)
                self._remove_others(saved.iteration)
        finally:
            self._cost = spent + time.thread_time() - began

    def _write(
        self,
        manifest: state_files.Manifest,
        leaves: Mapping[str, np.ndarray],
        place: pathlib.Path,
    ) -> None:
        """Write a checkpoint beside its place, and put it there when it is whole."""
        self._home.mkdir(parents=True, exist_ok=True)
        self._remove_left()
        if state_files.is_whole(place, manifest):
            return  # Removed first, a process killed just then would have neither.
        part = self._home / f".{place.name}.part"
        part.mkdir()
        try:
            state_files.write(part, manifest, leaves)
            _remove(place)
            os.replace(part, place)
            state_files.sync(self._home)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _remove_left(self) -> None:
        for entry in self._home.iterdir():
            if _LEFT.fullmatch(entry.name):
                _delete(entry)

    def _remove_others(self, iteration: int) -> None:
        """Keep the newest up to this one.

        Those behind it are damaged, or of a state that a resume has not gone on from.
        """
        there = self.iterations()
        newest = [i for i in there if i <= iteration][-self._keep :]
        for other in sorted(set(there) - set(newest)):
            _remove(self._home / str(other))

    # ------------------------------------------------------------------------- reading

    def iterations(self) -> list[int]:
        """The iterations of all checkpoints that are kept, in order."""
        if not self._home.is_dir():
            return []
        names = (entry.name for entry in self._home.iterdir() if entry.is_dir())
        return sorted(int(n) for n in names if n.isascii() and n.isdecimal())

    def restore(
        self, like: PyTree, seeds: tuple[int, ...], before: int | None = None
    ) -> Saved:
        """The newest checkpoint that is intact; says which were passed over and why.

        Args:
            like: Members (without padding) of the same structure and shapes.
            seeds: Their seeds.
            before: Only those of earlier iterations.

        Raises:
            ConfigError: There is none that is intact, or it does not fit the config.
        """
        reasons: list[str] = []
        for iteration in reversed(self.iterations()):
            if before is not None and iteration >= before:
                continue
            try:
                return self._read(iteration, like, seeds)
            except Damaged as damage:
                reasons.append(f"{self._run / _FOLDER / str(iteration)}: {damage}")
                _LOG.warning("%s; it is passed over", reasons[-1])
        told = f" ({'; '.join(reasons)})" if reasons else ""
        kind = "an intact checkpoint" if reasons else "a checkpoint"
        self._refuse(f"expected a run with {kind}{told}")

    def _read(self, iteration: int, like: PyTree, seeds: tuple[int, ...]) -> Saved:
        place, shapes = self._home / str(iteration), _shapes(like)
        manifest = state_files.read_manifest(place)
        if manifest.iteration != iteration:
            raise Damaged(f"it is that of iteration {manifest.iteration}")
        self._check_fit(manifest, shapes, seeds)
        leaves = state_files.read_arrays(place, shapes)
        return Saved(iteration, manifest.offset, seeds, _rebuild(like, leaves))

    def _check_fit(
        self,
        manifest: state_files.Manifest,
        shapes: Mapping[str, jax.ShapeDtypeStruct],
        seeds: tuple[int, ...],
    ) -> None:
        if seeds != manifest.seeds:
            expected = f"expected the seeds {list(manifest.seeds)}, got {list(seeds)}"
            self._refuse(expected)
        wanted = {name: state_files.describe(shape) for name, shape in shapes.items()}
        saved = manifest.arrays
        for name in (*saved, *wanted):
            there, here = saved.get(name), wanted.get(name)
            if there != here:
                self._refuse(
                    f"expected the config of the run; its checkpoint has {name}: "
                    f"{there or 'nothing'}, this config {here or 'nothing'}"
                )

    def _refuse(self, expected: str) -> NoReturn:
        raise ConfigError(f"resume={self._run}: {expected}")


@contextlib.contextmanager
def _writing(place: pathlib.Path) -> Iterator[None]:
    """Whatever goes wrong in it, no memory left for one, as `CannotWrite`."""
    try:
        with writing(place):
            yield
    except CannotWrite:
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__} {error}".split())
        raise CannotWrite(f"{place}: cannot be written ({words})") from error


def _remove(place: pathlib.Path) -> None:
    """Remove a checkpoint, if it is there, so that no part of it is taken for one."""
    gone = place.with_name(f".{place.name}.gone")
    with contextlib.suppress(FileNotFoundError):
        os.replace(place, gone)
        _delete(gone)


def _delete(path: pathlib.Path) -> None:
    """Delete a folder or a file; what cannot be is left to the next save."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


# ------------------------------------------------------------------------------- arrays


def _manifest(saved: Saved, leaves: Mapping[str, PyTree]) -> state_files.Manifest:
    arrays = {name: state_files.describe(leaf) for name, leaf in leaves.items()}
    return state_files.Manifest(saved.iteration, saved.offset, saved.seeds, arrays)


def _is_key(leaf: PyTree) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _implementation(keys: PyTree) -> PyTree:
    """Of PRNG keys, or of their shape alone: JAX asks for an array."""
    return jax.random.key_impl(jnp.empty((), keys.dtype))


def _named(tree: PyTree) -> dict[str, PyTree]:
    """The leaves by their path; that of a PRNG key ends with its implementation."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in paths
    }
    return {
        f"{name}.{_implementation(leaf)}" if _is_key(leaf) else name: leaf
        for name, leaf in named.items()
    }


def _host_leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """Copies of all arrays by their path; PRNG keys as their data."""
    return {
        name: _copy(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for name, leaf in _named(tree).items()
    }


def _copy(leaf: PyTree) -> np.ndarray:
    """A copy: the next iteration is given the array itself to write into.

    Device by device: `np.array` of an array on several puts it together, keeps that
    for later calls and copies it once more, which takes ten times as long.
    """
    if not isinstance(leaf, jax.Array):
        return np.array(leaf)
    copy = np.empty(leaf.shape, leaf.dtype)
    for shard in leaf.addressable_shards:
        copy[shard.index] = shard.data
    return copy


def _shapes(tree: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of what `_host_leaves` makes."""

    def shape(leaf: PyTree) -> jax.ShapeDtypeStruct:
        if _is_key(leaf):
            return jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    return {name: shape(leaf) for name, leaf in _named(tree).items()}


def _rebuild(like: PyTree, leaves: Mapping[str, np.ndarray]) -> PyTree:
    """The tree of `like` with the saved values."""
    values = [
        jax.random.wrap_key_data(jnp.asarray(leaves[name]), impl=_implementation(leaf))
        if _is_key(leaf)
        else leaves[name]
        for name, leaf in _named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), values)
