"""The user's own folder of configs, `--config-dir`: its files win, and it is said."""

import argparse
import functools
import os
import pathlib
import sys
from typing import NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.errors import SearchPathException

from rl_grads.config import SCHEMAS, shorten


class Folders(NamedTuple):
    """Where Hydra looks for configs, the first first."""

    first: str
    second: str | None


def order(flags: argparse.Namespace, ours: pathlib.Path) -> Folders:
    """The user's folder before ours: Hydra itself would look there afterwards.

    Args:
        flags: Hydra's flags, parsed.
        ours: The folder of the built-in files.

    Raises:
        SearchPathException: There is no such folder.
    """
    if flags.config_dir is None:
        return Folders(flags.config_path or str(ours), None)
    if not os.path.isdir(flags.config_dir):  # False where the name is too long.
        raise SearchPathException(f"no directory '{shorten(flags.config_dir)}'")
    if flags.config_path is not None:
        return Folders(flags.config_path, flags.config_dir)
    folder = pathlib.Path(flags.config_dir).absolute()
    _withdraw(folder)
    _tell(flags.config_dir, folder, ours)
    return Folders(str(folder), str(ours))


def hidden(folder: pathlib.Path, ours: pathlib.Path) -> list[str]:
    """The files below a folder that have the name of a built-in one, or of a schema."""
    files = (path.relative_to(folder) for path in folder.rglob("*.yaml"))
    names = sorted(str(path) for path in files)
    known = {f"{name}.yaml" for name in SCHEMAS}
    return [name for name in names if name in known or (ours / name).is_file()]


@functools.cache
def _tell(given: str, folder: pathlib.Path, ours: pathlib.Path) -> None:
    """Say, once, for which built-in files the user's own stand."""
    found = hidden(folder, ours)
    if found:
        verb, what = ("stand", "files") if len(found) > 1 else ("stands", "file")
        line = f"{', '.join(found)} {verb} for the built-in {what}"
        print(f"--config-dir={given}: {line}", file=sys.stderr)


def _withdraw(folder: pathlib.Path) -> None:
    """Take stored schemas away whose names the user's files have.

    Hydra would merge the two, and warn that it will not for long.
    """
    stored = ConfigStore.instance().repo
    for name in SCHEMAS:
        group, _, option = name.partition("/")
        if (folder / f"{name}.yaml").is_file():
            stored.get(group, {}).pop(f"{option}.yaml", None)
