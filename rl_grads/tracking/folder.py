"""A run's folder: how a place is taken, and the documents that say what is in it.

`config.json` holds the config of a point and the seeds of its members; `run.json` how
the run was made. Both carry a format number. A folder is data: what is read here is
plain JSON, and whoever reads it checks it against the program's own names.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from rl_grads.config import ConfigError
from rl_grads.tracking.files import write_json
from rl_grads.tracking.lease import Held, Lease
from rl_grads.typing import Document, Json, Section

FORMAT = 1
CONFIG, RUN, SUMMARY = "config.json", "run.json", "summary.json"
SWEEP = "sweep.json"
ROWS, CHECKPOINTS, PARAMETERS = "metrics.jsonl", "checkpoints", "parameters.npz"
_LONGEST = 200
_LARGEST = 4 << 20  # Bytes of a document.


def check_id(text: str) -> None:
    """Refuse a `run.id` that is not a plain path below `runs/`.

    Raises:
        ConfigError: It is empty, absolute, too long, or leads elsewhere.
    """
    parts = text.split("/")
    plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    if not plain or max(map(len, parts)) > _LONGEST or len(text) > 4 * _LONGEST:
        shown = text if text.isprintable() else repr(text)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise ConfigError(
            f"run.id={shown}: expected a name for a folder below runs/, such as paper "
            f"or paper/second, of at most {_LONGEST} characters"
        )


def holds_results(directory: pathlib.Path) -> bool:
    """Whether a run has begun in a folder, or in the first point below it."""
    signs = (CONFIG, RUN, SUMMARY, ROWS, CHECKPOINTS, SWEEP)
    return any((directory / p / sign).exists() for sign in signs for p in (".", "0"))


def take_new(directory: pathlib.Path) -> pathlib.Path:
    """Create a folder that was not there: this one, or with -2, -3, ... behind it.

    Raises:
        OSError: It cannot be created.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    for place in _numbered(directory, first=2):
        try:
            place.mkdir()
        except FileExistsError:
            continue
        return place
    raise AssertionError("the numbers are endless")


def _numbered(path: pathlib.Path, first: int) -> Iterator[pathlib.Path]:
    yield path
    for number in itertools.count(first):
        yield path.with_name(f"{path.name}-{number}")


@contextlib.contextmanager
def claimed(directory: pathlib.Path, going_on: bool, overwrite: bool) -> Iterator[None]:
    """A folder for this process alone, while it lasts.

    Args:
        directory: The folder; created where it is not there.
        going_on: Whether the run that it holds goes on; else it must hold none.
        overwrite: Whether a run that it holds is moved aside.

    Raises:
        ConfigError: It holds a run, or a living process works in it.
        OSError: It cannot be written.
    """
    if going_on and not directory.is_dir():
        raise ConfigError(f"resume={directory}: expected the folder of a run")
    directory.mkdir(parents=True, exist_ok=True)
    lease = _lease(directory)
    try:
        if not going_on and holds_results(directory):
            if not overwrite:
                raise ConfigError(
                    f"{directory}: holds a run already; expected resume={directory} to "
                    "go on with it, another run.id, or run.overwrite=true to move it "
                    "aside"
                )
            lease.release()
            move_aside(directory)
            directory.mkdir()
            lease = _lease(directory)
        yield
    finally:
        lease.release()
        with contextlib.suppress(OSError):
            directory.rmdir()  # Where nothing has been written.


def _lease(directory: pathlib.Path) -> Lease:
    try:
        return Lease(directory)
    except Held as held:
        expected = f"expected a folder in which nobody works, {held} does"
        raise ConfigError(f"{directory}: {expected}") from None


def move_aside(directory: pathlib.Path) -> pathlib.Path:
    """Move what lies in a folder away, whole; where it lies now.

    Raises:
        OSError: It cannot be moved.
    """
    for number in itertools.count(1):
        place = directory.with_name(f"{directory.name}.replaced-{number}")
        if not os.path.lexists(place):
            directory.rename(place)
            return place
    raise AssertionError("the numbers are endless")


# ------------------------------------------------------------------------- documents


def write_config(
    directory: pathlib.Path,
    config: Mapping[str, Section],
    seeds: Sequence[int],
    choices: Mapping[str, str],
    changes: Sequence[Mapping[str, Json]] = (),
) -> None:
    """Write `config.json`.

    Args:
        directory: The point's folder.
        config: The flat document of its config (see `config.document`).
        seeds: One per member.
        choices: The file that was chosen for each group, for labels of figures.
        changes: What later resumes changed: `{"time", "step", "values"}` each.
    """
    document = {
        "format": FORMAT,
        "config": config,
        "seeds": seeds,
        "choices": choices,
        "changes": changes,
    }
    write_json(directory / CONFIG, document)


def read_document(path: pathlib.Path) -> Document:
    """A JSON document of this format.

    Raises:
        ConfigError: It is no JSON mapping, too large, or of a format unknown here.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path}: expected at most {_LARGEST:,} bytes")
        document = json.loads(content)
    except OSError as error:
        raise ConfigError(f"{path}: expected a file ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(":")[0][:80]
        raise ConfigError(f"{path}: expected JSON ({reason})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a JSON mapping")
    if document.get("format") != FORMAT or isinstance(document["format"], bool):
        found = str(document.get("format"))[:40]
        raise ConfigError(f"{path}: format={found}: expected {FORMAT}, which is known")
    return document
