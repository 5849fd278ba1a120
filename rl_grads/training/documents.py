"""What a run says of itself while it trains and afterwards: `config.json`, `run.json`.

Every point has both. The folder of a population with several points has a `run.json`
that names them, and each of theirs leads back to it.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from rl_grads.config.document import to_document
from rl_grads.tracking import folder, history
from rl_grads.tracking.files import write_json
from rl_grads.training import provenance
from rl_grads.training.continuing import Begin
from rl_grads.training.places import Point
from rl_grads.training.setup import Setup
from rl_grads.typing import Document, Json

# What describes where a run is written rather than the run.
_OWN = ("resume", "run.id", "run.overwrite")


class Told(NamedTuple):
    """What is said of a run.

    Attributes:
        document: `run.json` of the population, as it was written.
        now: How this process makes it; of what a resumed folder says, nothing.
    """

    document: dict[str, Any]
    now: dict[str, Any]


def start(setup: Setup, begin: Begin) -> Told:
    """Write the documents of a run that begins or goes on.

    Raises:
        OSError: A folder cannot be written.
    """
    now = provenance.describe(setup.origin)
    document = _run_document(setup, begin, now)
    setup.home.mkdir(parents=True, exist_ok=True)
    for point in setup.group.points:
        point.directory.mkdir(parents=True, exist_ok=True)
    _write(setup, document)  # First: what has a config has this as well.
    for point in setup.group.points:
        _write_config(setup, point, begin)
    return Told(document, now)


def end(
    setup: Setup, document: Mapping[str, Json], status: str, reason: str | None = None
) -> None:
    """Write how a run has ended; a folder that is gone stays gone."""
    if setup.home.is_dir():
        ended = {"end": provenance.now(), "status": status, "reason": reason}
        _write(setup, {**document, **ended})


def entries(setup: Setup, point: Point) -> Document:
    """The flat document of a point's config, as it is recorded."""
    config = setup.members[point.members[0]].config
    own = {k: v for k, v in to_document(config).items() if k not in _OWN}
    return own | {k: v for k, v in setup.origin.unresolved.items() if k in own}


def _write_config(setup: Setup, point: Point, begin: Begin) -> None:
    now, seeds = entries(setup, point), [setup.members[k].seed for k in point.members]
    before = history.read(point.directory) if setup.in_place else None
    if before is None:
        folder.write_config(point.directory, now, seeds, setup.origin.choices)
        return
    changed = {k: v for k, v in now.items() if k in before.latest}
    changed = {k: v for k, v in changed.items() if v != before.latest[k]}
    changes = [*before.changes]
    if changed:
        when = {"time": provenance.now(), "step": begin.step}
        changes.append({**when, "values": changed})
    folder.write_config(point.directory, before.first, seeds, before.choices, changes)


def _run_document(setup: Setup, begin: Begin, now: Mapping[str, Json]) -> Document:
    document = {
        "format": folder.FORMAT,
        **now,
        "objects": _objects(setup),
        "from": None,
        "resumes": [],
    }
    if setup.source is None:
        return document
    if not setup.in_place:
        return document | {"from": {"run": str(setup.source), "step": begin.step}}
    return _continued(setup.home, document, begin)


def _continued(home: pathlib.Path, document: Document, begin: Begin) -> Document:
    """The first start stays; what is different from then on is added to it."""
    path = home / folder.RUN
    if not path.exists():  # A folder of an earlier version.
        return document
    first = folder.read_document(path)
    names = ("command", "plugins", "source", "versions", "device", "host", "start")
    again = {name: document[name] for name in names} | {"step": begin.step}
    known = first.get("resumes")
    resumes = [*(known if isinstance(known, list) else ()), again]
    return {**document, **first, "resumes": resumes, "end": None, "status": "running"}


def _objects(setup: Setup) -> dict[str, str]:
    """Agent and environment that were handed over and do not come from the config."""
    given = setup.given
    named = {"agent": given.agent, "environment": given.environment}
    return {
        kind: str(getattr(value, "name", type(value).__name__))
        for kind, value in named.items()
        if value is not None
    }


def _write(setup: Setup, document: Mapping[str, Json]) -> None:
    """`run.json` of the population, and of each point that has a folder of its own."""
    names = [_name(setup, point) for point in setup.group.points]
    write_json(setup.home / folder.RUN, {**document, "points": names})
    public = provenance.public(document)
    for point, name in zip(setup.group.points, names, strict=True):
        if name != ".":
            above = os.path.relpath(setup.home, point.directory)
            own = {"population": above, "members": list(point.members)}
            write_json(point.directory / folder.RUN, {**public, **own})


def _name(setup: Setup, point: Point) -> str:
    return "." if point.directory == setup.home else point.directory.name
