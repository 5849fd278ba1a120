"""`rl-grads delete RUN...`: move runs into the trash."""

import argparse
import itertools
import os
import pathlib
import re
import shlex
from collections.abc import Iterator, Sequence

from rl_grads.cli import errors
from rl_grads.config import ConfigError, nearest
from rl_grads.typing import Json

COMMAND = "rl-grads delete"
_TRASH = ".trash"
_ABOUT = """\
Move runs, points or sweeps into .trash, a folder beside them: at once and whole, as it
lies on the same disk, and mv brings them back. No other command looks into it."""
# What is run to take the runs of a mirror away; both libraries know no command for it.
_MIRRORS = {
    "wandb": (
        "W&B",
        "import wandb; [wandb.Api().run(f'{project}/{{id}}').delete() for id in {ids}]",
    ),
    "trackio": (
        "Trackio",
        "import trackio; "
        "[r.delete() for r in trackio.Api().runs('{project}') if r.id in {ids}]",
    ),
}


def main(argv: Sequence[str]) -> int:
    """Move runs away, and say where they are and what mirrors keep of them.

    Args:
        argv: Arguments after `rl-grads delete`.

    Returns:
        The exit status: 2 for bad input, with one message; nothing is moved then.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=_ABOUT)
    parser.add_argument(
        "runs",
        type=pathlib.Path,
        nargs="+",
        metavar="RUN",
        help="folder of a run, a point or a sweep",
    )
    options = parser.parse_args(list(argv))
    return errors.guard(COMMAND, argv, lambda _: _main(options.runs))


def _main(given: Sequence[pathlib.Path]) -> None:
    runs = [pathlib.Path(os.path.abspath(path)) for path in given]
    for path, run in zip(given, runs, strict=True):
        _check(path, run)
    for run in dict.fromkeys(runs):
        for line in _delete(run):
            print(line)


def _check(given: pathlib.Path, run: pathlib.Path) -> None:
    """Refuse what is no run, and a run in which a process works."""
    from rl_grads.tracking import folder, history, lease

    if run.is_symlink() or not run.is_dir() or not folder.holds_results(run):
        hint = nearest(str(given), history.known_runs(given))
        raise ConfigError(f"{given}: expected the folder of a run or a sweep{hint}")
    if pathlib.Path.cwd().is_relative_to(run):
        raise ConfigError(f"{given}: expected a folder other than the current one")
    places = [path.parent for path in run.rglob(lease.FILE)]
    for place in places:
        holder = lease.holder(place)
        if holder is not None:
            expected = f"expected a run in which nobody works, {holder} does"
            raise ConfigError(f"{os.path.relpath(place)}: {expected}")


def _delete(run: pathlib.Path) -> Iterator[str]:
    """Move a run, and say where it is."""
    try:
        (run.parent / _TRASH).mkdir(exist_ok=True)
        place = _free(run.parent / _TRASH / run.name)
        run.rename(place)
    except OSError as error:
        expected = f"expected a folder that can be moved ({error.strerror})"
        raise ConfigError(f"{run}: {expected}") from error
    shown, size = os.path.relpath(place), _size(place)
    yield f"{os.path.relpath(run)}: moved to {shown}"
    yield f"  to free {size}: rm -r {shlex.quote(shown)}"
    for mirror in _MIRRORS:
        yield from _mirrored(place, mirror)


def _free(path: pathlib.Path) -> pathlib.Path:
    """A path that is not taken: this one, or with -2, -3, ... behind it."""
    others = (path.with_name(f"{path.name}-{k}") for k in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not os.path.lexists(p))


def _size(place: pathlib.Path) -> str:
    """Bytes of all files in a folder, in words."""
    size = sum(path.lstat().st_size for path in place.rglob("*"))
    unit = next((u for u in ("B", "kB", "MB") if size < 1000 ** _POWER[u]), "GB")
    return f"{size / 1000 ** (_POWER[unit] - 1):.3g} {unit}"


_POWER = {"B": 1, "kB": 2, "MB": 3, "GB": 4}


def _mirrored(place: pathlib.Path, mirror: str) -> Iterator[str]:
    """How to take away what a mirror has of a run, or of the points of a sweep."""
    from rl_grads.results.points import document
    from rl_grads.tracking.run import known_ids

    name, code = _MIRRORS[mirror]
    found: dict[str, list[str]] = {}
    for path in sorted(place.rglob(f"{mirror}.json")):
        project = _project(document(path).get("project"))
        found.setdefault(project, []).extend(known_ids(path))
    for project, ids in found.items():
        if project and ids:
            count = f"{len(ids)} run" if len(ids) == 1 else f"{len(ids)} runs"
            yield f"  {name} keeps {count} in {project}; to delete them there:"
            told = code.format(project=project, ids=ids)
            yield f"  python -c {shlex.quote(told)}"


def _project(value: Json) -> str:
    """The name of a project; empty where it is none that a command may hold."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w.-]+", value) else ""
