"""How a run was made: what `run.json` says beside the config.

Command, plugins, the commit and the uncommitted changes of this package's tree and of
each plugin's, versions, device, host, start and end. The mirrors get all of it but the
changes and the values of the environment.
"""

import datetime
import functools
import hashlib
import importlib.metadata
import pathlib
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rl_grads.training import devices
from rl_grads.typing import Document, Json

_LIBRARIES = (
    "rl_grads",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "gymnasium",
    "gymnax",
    "hydra-core",
)
_LONGEST_DIFF = 1_000_000  # Characters.
_GIT_SECONDS = 10


class Origin(NamedTuple):
    """Where a run comes from.

    Attributes:
        command: The command line.
        plugins: Modules that it imported.
        config_dir: The user's own folder of configs, if one was given.
        choices: The file that was chosen for each group of the config.
        unresolved: Dotted key to the text of a value that reads the environment; it
            is recorded and shown in the place of what it read.
        sweep: The sweep that a point belongs to.
        swept: Keys that differ between its points.
    """

    command: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    config_dir: str | None = None
    choices: Mapping[str, str] = {}
    unresolved: Mapping[str, str] = {}
    sweep: str | None = None
    swept: tuple[str, ...] = ()


def of_this_process() -> Origin:
    """For runs that a program of the user's own makes."""
    return Origin(command=tuple(sys.argv))


def describe(origin: Origin) -> Document:
    """The document of a run that begins now, in plain values."""
    return {
        "command": list(origin.command),
        "plugins": list(origin.plugins),
        "config_dir": origin.config_dir,
        "sweep": origin.sweep,
        "versions": dict(_versions()),
        "device": devices.describe(),
        "host": socket.gethostname(),
        "start": now(),
        "end": None,
        "status": "running",
        "source": _sources(origin.plugins),
    }


def public(document: Mapping[str, Json]) -> Document:
    """What the mirrors are told: all but uncommitted changes."""
    found = document.get("source")
    trees = found.items() if isinstance(found, dict) else ()
    source = {
        name: {k: v for k, v in tree.items() if k != "diff"}
        for name, tree in trees
        if isinstance(tree, dict)
    }
    return {**document, "source": source}


def now() -> str:
    """This moment with its offset from UTC, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


# ----------------------------------------------------------------------------- source


def _sources(plugins: Sequence[str]) -> dict[str, dict[str, Json]]:
    """Commit and changes of this package, and file and checksum of each plugin."""
    found = {"rl_grads": _tree(pathlib.Path(__file__).parents[1] / "__init__.py")}
    for name in plugins:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            found[name] = _file(pathlib.Path(file)) | _tree(pathlib.Path(file))
    return found


def _file(path: pathlib.Path) -> dict[str, str]:
    """A plugin's file; its text stands for the changes where Git does not know it."""
    try:
        content = path.read_bytes()
    except OSError:
        return {"file": str(path)}
    return {
        "file": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "diff": content.decode(errors="replace")[:_LONGEST_DIFF],
    }


def _tree(file: pathlib.Path) -> Document:
    """The commit of the Git tree that a file belongs to, and what it lacks.

    Nothing where Git does not know the file, as in an installed package.
    """
    folder = file.resolve().parent
    if not _git(folder, "ls-files", "--", str(file.resolve())):
        return {}
    return _commit(folder) | {"diff": _diff(folder)}


@functools.cache
def _commit(folder: pathlib.Path) -> dict[str, str]:
    return {"commit": _git(folder, "rev-parse", "HEAD").strip()}


def _diff(folder: pathlib.Path) -> str:
    """Uncommitted changes of the tree, cut where they are very long."""
    text = _git(folder, "diff", "HEAD", "--no-ext-diff", "--no-textconv")
    if len(text) <= _LONGEST_DIFF:
        return text
    return f"{text[:_LONGEST_DIFF]}\n... cut after {_LONGEST_DIFF:,} characters\n"


def _git(folder: pathlib.Path, *arguments: str) -> str:
    """What Git prints; nothing where it cannot."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
