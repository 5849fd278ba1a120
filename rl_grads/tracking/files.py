"""The files of a run: `metrics.jsonl` and whole JSON documents.

Everything is strict JSON. A float is written with the fewest digits that read back as
the same value of its own type; nan is `null`, an infinity is the string `"Infinity"`
or `"-Infinity"` (`float` reads both strings).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rl_grads import atomic
from rl_grads.config import ConfigError
from rl_grads.typing import Json

if TYPE_CHECKING:
    import numpy as np


class CannotWrite(OSError):
    """A file of a run cannot be written; the text is a message for people."""


@contextlib.contextmanager
def writing(directory: pathlib.Path) -> Iterator[None]:
    """Errors of the file system that are met in it as `CannotWrite`.

    Args:
        directory: Named where the error itself names no file.
    """
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        place = error.filename or directory
        raise CannotWrite(f"{place}: cannot be written ({reason})") from error


Row = dict[str, Any]
LABELS = ("step", "member", "seed")  # What a row has beside its metrics.
_INFINITY = {"Infinity": math.inf, "-Infinity": -math.inf, None: math.nan}


def make_rows(
    step: int, metrics: Mapping[str, np.ndarray], seeds: Sequence[int]
) -> list[Row]:
    """The rows of one logged step, one per member, metrics in order of their names.

    Args:
        step: Environment steps per member so far.
        metrics: Name to array `[members]`.
        seeds: The seed of each member.

    Returns:
        `[{"step": step, "member": k, "seed": seeds[k], name: number, ...}, ...]`

    Raises:
        ValueError: A metric has another shape than `[members]`.

    Example:
        >>> import numpy as np
        >>> make_rows(10, {"loss": np.asarray([0.1, 2.0], np.float32)}, seeds=(7, 8))[0]
        {'step': 10, 'member': 0, 'seed': 7, 'loss': 0.1}
    """
    columns = {name: _numbers(name, metrics[name], seeds) for name in sorted(metrics)}
    return [
        {"step": int(step), "member": k, "seed": int(seed)}
        | {name: column[k] for name, column in columns.items()}
        for k, seed in enumerate(seeds)
    ]


def _numbers(name: str, values: Json, seeds: Sequence[int]) -> list[float]:
    """An array `[members]` as Python numbers with the digits of its own type."""
    import numpy as np

    array = np.asarray(values)
    if array.shape != (len(seeds),):
        raise ValueError(
            f"metric {name!r} has shape {array.shape}: expected ({len(seeds)},), "
            "one value per member"
        )
    if array.dtype.kind in "biu":
        return [int(x) for x in array]
    return [float(str(x)) for x in array]


class MetricsFile:
    """`metrics.jsonl`: one row per logged step and member, without wall-clock values.

    Equal runs write equal bytes. Every call of `log` reaches the operating system, so
    that a killed process loses nothing that was logged.

    Args:
        path: The file. Without `offset` it starts empty.
        offset: Keep this many bytes and go on behind them (resuming a run).

    Raises:
        ValueError: The file is shorter than `offset`.
    """

    def __init__(self, path: pathlib.Path, offset: int | None = None):
        self._path = pathlib.Path(path).absolute()
        mode = "wb" if offset is None else "r+b"
        self._file = open(path, mode, buffering=0)  # noqa: SIM115
        size = self._file.seek(0, os.SEEK_END)
        if offset is not None and size < offset:
            self._file.close()
            raise ValueError(f"{path} has {size} bytes: expected at least {offset}")
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)

    def log(self, rows: Sequence[Row]) -> None:
        """Append rows (see `make_rows`).

        Raises:
            OSError: The disk is full, or the file is not there any more.
        """
        if not self._path.exists():
            gone = "it was removed while the run went on"
            raise FileNotFoundError(errno.ENOENT, gone, str(self._path))
        content = "".join(f"{_dumps(row)}\n" for row in rows).encode()
        before = self._file.tell()
        try:
            written = 0
            while written < len(content):
                written += self._file.write(content[written:]) or 0
        except OSError:
            with contextlib.suppress(OSError):  # What is there stays whole.
                self._file.truncate(before)
            raise

    def offset(self) -> int:
        """Bytes written so far, all of them on the disk when this returns."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._file.close()


def read_rows(path: pathlib.Path, stop: int | None = None) -> Iterator[list[Row]]:
    """The rows of a metrics file, one list per logged step, nan and infinities back.

    What a killed process has left at the end and is not whole, a line or the rows of
    some members, is no row yet.

    Args:
        path: The file.
        stop: Read only this many bytes.

    Raises:
        ConfigError: It cannot be read, or another line is no row.
    """
    rows, members = (line.row for line in _lines(path, stop)), 0
    for _, group in itertools.groupby(rows, key=lambda row: row["step"]):
        of_step = list(group)
        members = members or len(of_step)
        if len(of_step) == members:
            yield of_step


def last_step(path: pathlib.Path) -> int | None:
    """The step of the last whole row of a metrics file; None where there is none."""
    with contextlib.suppress(ConfigError):
        return max((line.row["step"] for line in _lines(path)), default=None)
    return None


def end_of_step(path: pathlib.Path, step: int) -> int:
    """Bytes of a metrics file up to the last row of a step, or of one before it.

    Raises:
        ConfigError: As `read_rows`.
    """
    ends = [line.end for line in _lines(path) if line.row["step"] <= step]
    return max(ends, default=0)


class _Line(NamedTuple):
    """A row, and the bytes of the file up to its end."""

    row: Row
    end: int


def _lines(path: pathlib.Path, stop: int | None = None) -> Iterator[_Line]:
    """Every whole line of a metrics file."""
    try:
        with open(path, "rb") as file:
            content = file.read(-1 if stop is None else stop)
    except OSError as error:
        raise ConfigError(f"{path}: expected a file ({error.strerror})") from None
    end, lines = 0, content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        end += len(line)
        row = _row(line)
        if row is not None:
            yield _Line(row, end)
        elif number < len(lines) or line.endswith(b"\n"):
            raise ConfigError(f"{path}: line {number}: expected a row of metrics")


def _row(line: bytes) -> Row | None:
    """A line as a row; None where it is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    labelled = isinstance(row, dict) and all(type(row.get(n)) is int for n in LABELS)
    return _decode(row) if labelled and all(map(_is_number, row.values())) else None


def _is_number(value: Json) -> bool:
    if value is None or isinstance(value, str):
        return value in _INFINITY
    return isinstance(value, int | float)


def _decode(row: Row) -> Row:
    odd = {k: _INFINITY[v] for k, v in row.items() if v is None or isinstance(v, str)}
    return row | odd


def write_json(path: pathlib.Path, value: Json) -> None:
    """Write a document so that readers see the old one or the new one, never a part.

    Args:
        path: The file.
        value: Mappings, sequences, numbers, text, NumPy values and paths.
    """
    atomic.write_bytes(path, f"{_dumps(value, indent=2)}\n".encode())


def _dumps(value: Json, indent: int | None = None) -> str:
    return json.dumps(_strict(value), allow_nan=False, indent=indent)


def _strict(value: Json) -> Json:
    """A value as strict JSON has it."""
    if isinstance(value, Mapping):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return _strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return _spell(value)
    return value


def _spell(value: float) -> str | None:
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"
