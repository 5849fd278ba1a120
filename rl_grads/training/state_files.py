"""The two files of a checkpoint: all arrays, and the document that tells of them.

`state.npz` holds every array; `manifest.json` what they are, and size and checksum of
the state; it has a checksum of its own. A flipped bit, a cut file or a missing one is
noticed.
"""

import hashlib
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rl_grads.typing import Document, Json

_FORMAT = 1
_STATE, _MANIFEST = "state.npz", "manifest.json"
_LARGEST_MANIFEST = 64 << 20  # Bytes.
_HEADER = 4096  # Bytes, at most, that stand before the numbers of an array.


class Damaged(Exception):
    """A checkpoint cannot be used; the text says why."""


class Manifest(NamedTuple):
    """What a checkpoint is.

    Attributes:
        iteration: Iterations of training so far.
        offset: Bytes of all metrics files at that moment.
        seeds: One per member.
        arrays: Name of each array to its type and shape, as `float32[10, 4]`.
    """

    iteration: int
    offset: int
    seeds: tuple[int, ...]
    arrays: dict[str, str]


def write(place: pathlib.Path, manifest: Manifest, leaves: Mapping[str, Json]) -> None:
    """Write a checkpoint into a folder, and have it on the disk.

    Args:
        place: The folder; it exists.
        manifest: What it is.
        leaves: The arrays by their names.

    Raises:
        OSError: It cannot be written.
    """
    state = _write_state(place / _STATE, leaves)
    document = {"format": _FORMAT, **manifest._asdict(), "state": state}
    document = json.loads(json.dumps(document))
    whole = {"sha256": _checksum(document), **document}
    with open(place / _MANIFEST, "wb") as file:
        file.write(json.dumps(whole, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())


def read_manifest(place: pathlib.Path) -> Manifest:
    """What a checkpoint is.

    Args:
        place: Its folder.

    Raises:
        Damaged: The document is not as it was written, or of another version.
    """
    document = _read_document(place)
    seeds = tuple(document["seeds"])
    arrays = document["arrays"]
    return Manifest(document["iteration"], document["offset"], seeds, arrays)


def read_arrays(
    place: pathlib.Path, shapes: Mapping[str, Json]
) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by their names.

    Args:
        place: Its folder.
        shapes: What its manifest says, as records with a `shape` and a `dtype`.

    Raises:
        Damaged: They are not as they were written.
    """
    _check_file(place / _STATE, _read_document(place)["state"])
    return _read_state(place / _STATE, shapes)


def is_whole(place: pathlib.Path, manifest: Manifest) -> bool:
    """Whether a folder holds that very checkpoint, and nothing of it is damaged."""
    try:
        same = read_manifest(place) == manifest
        _check_file(place / _STATE, _read_document(place)["state"])
    except Damaged:
        return False
    return same


def _write_state(path: pathlib.Path, leaves: Mapping[str, np.ndarray]) -> Document:
    """Write all arrays; size and checksum of the file."""
    with zipfile.ZipFile(path, "w", compresslevel=1) as archive:
        for number, leaf in enumerate(leaves.values()):
            archive.compression = _packing(leaf)
            with archive.open(f"{number}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, _plain(leaf), allow_pickle=False)
    sync(path)
    return _measure(path)


def _packing(leaf: np.ndarray) -> int:
    """Whether to pack: frames of bytes and integers are mostly alike, floats are not.

    Measured by `scripts/benchmark_checkpoints.py`.
    """
    return zipfile.ZIP_DEFLATED if leaf.dtype.kind in "biu" else zipfile.ZIP_STORED


def _plain(leaf: np.ndarray) -> np.ndarray:
    """The bits of a type that NumPy's format has no name for, such as bfloat16."""
    return leaf.view(f"u{leaf.itemsize}") if leaf.dtype.kind == "V" else leaf


def _measure(path: pathlib.Path) -> Document:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": digest}


def _checksum(document: Mapping[str, Json]) -> str:
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_document(place: pathlib.Path) -> Document:
    """The document about a checkpoint.

    Raises:
        Damaged: It is not as it was written, or of another version.
    """
    try:
        with open(place / _MANIFEST, "rb") as file:
            document = json.loads(file.read(_LARGEST_MANIFEST))
        checksum = document.pop("sha256")
    except OSError as error:
        reason = "it is of an earlier version" if _is_orbax(place) else error.strerror
        raise Damaged(f"{_MANIFEST}: {reason}") from None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        raise Damaged(f"{_MANIFEST} is damaged") from None
    if checksum != _checksum(document):
        raise Damaged(f"{_MANIFEST} has changed on the disk")
    if document.get("format") != _FORMAT:
        found = str(document.get("format"))[:20]
        raise Damaged(f"format {found} is unknown, expected {_FORMAT}")
    if not _has_all(document):
        raise Damaged(f"{_MANIFEST} says something else than a checkpoint's")
    return document


def _is_orbax(place: pathlib.Path) -> bool:
    """Whether a version before this format has written it."""
    return (place / "_CHECKPOINT_METADATA").exists()


def _has_all(document: Mapping[str, Json]) -> bool:
    """Whether all is there, of its kind: a checksum can be made by anybody."""
    kinds = {"iteration": int, "offset": int, "seeds": list, "arrays": dict}
    if not all(type(document.get(name)) is kind for name, kind in kinds.items()):
        return False
    state = document.get("state")
    return (
        isinstance(state, dict)
        and type(state.get("size")) is int
        and isinstance(state.get("sha256"), str)
        and document["offset"] >= 0
        and all(type(seed) is int for seed in document["seeds"])
        and all(isinstance(text, str) for text in document["arrays"].values())
    )


def _check_file(path: pathlib.Path, expected: Mapping[str, Json]) -> None:
    try:
        found = _measure(path)
    except OSError as error:
        raise Damaged(f"{path.name}: {error.strerror}") from None
    if found["size"] != expected["size"]:
        told = f"has {found['size']:,} bytes, {expected['size']:,} were written"
        raise Damaged(f"{path.name} {told}")
    if found != expected:
        raise Damaged(f"{path.name} has changed on the disk")


def _read_state(
    path: pathlib.Path, shapes: Mapping[str, Json]
) -> dict[str, np.ndarray]:
    """All arrays by their names; they are plain, and nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name: _read_array(archive, number, shape)
                for number, (name, shape) in enumerate(shapes.items())
            }
    except Exception as error:  # Anybody can write an archive, with any fault.
        raise Damaged(f"{path.name} is damaged ({str(error)[:60]})") from None


def _read_array(archive: zipfile.ZipFile, number: int, shape: Json) -> np.ndarray:
    """An array, if it is the one that was expected; a larger one is not unpacked."""
    entry = archive.getinfo(f"{number}.npy")
    size = math.prod(shape.shape) * shape.dtype.itemsize
    if entry.file_size > size + _HEADER:
        raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")
    with archive.open(entry) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    array = array.view(shape.dtype) if shape.dtype.kind == "V" else array
    if describe(array) != describe(shape):
        raise ValueError(f"{entry.filename} is {describe(array)}")
    return array


def sync(path: pathlib.Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(leaf: Json) -> str:
    """Type and shape, as `float32[10, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"
