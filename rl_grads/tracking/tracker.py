"""One tracker for the training loop: files, and the mirrors that the config asks for.

Files are the truth, and their errors propagate. A mirror that fails warns once and is
dropped. When a run is resumed its mirrors are fed again from the file, cut at the
checkpoint, so that they show what the file says and nothing twice.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rl_grads.tracking.background import Background, Mirror
from rl_grads.tracking.files import MetricsFile, make_rows, read_rows, write_json
from rl_grads.tracking.schema import Tracking

if TYPE_CHECKING:
    import numpy as np


class Run(NamedTuple):
    """What a tracker is told once.

    Attributes:
        directory: The point's directory; it exists.
        name: Such as `"cartpole/2026-11-22_05-30-00"`.
        seeds: One per member.
        configs: The resolved config of each member as a plain nested dict.
        settings: What to mirror and where.
        group: The name of its sweep or run, which all points share; None: its own.
        job_type: What kind of work it is.
        tags: Under which it is found, beside those of the settings.
        provenance: How it was made: command, commits, versions, device, host.
    """

    directory: pathlib.Path
    name: str
    seeds: tuple[int, ...]
    configs: tuple[dict[str, Any], ...]
    settings: Tracking
    group: str | None = None
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = {}


class Tracker(Protocol):
    """What the training loop sees."""

    def log(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Take the metrics of one logged step, each of shape `[members]`."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take the summary and end."""
        ...


class Trackers:
    """The files of a run and its mirrors; also a context that ends them on errors.

    Args:
        run: The run.
        file: Its metrics file.
        mirrors: The mirrors, started.
    """

    def __init__(self, run: Run, file: MetricsFile, mirrors: Sequence[Background]):
        self._run, self._file, self._mirrors = run, file, mirrors

    def log(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Write one row per member and hand the rows to the mirrors.

        Args:
            step: Environment steps per member so far.
            metrics: Name to array `[members]`.

        Raises:
            ValueError: A metric has another shape.
            OSError: The file cannot be written.
        """
        rows = make_rows(step, metrics, self._run.seeds)
        self._file.log(rows)
        for mirror in self._mirrors:
            mirror.log(rows)

    def offset(self) -> int:
        """Bytes of `metrics.jsonl` that are on the disk: what a checkpoint stores."""
        return self._file.offset()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, then wait for the mirrors.

        Args:
            summary: The document. Entries with a list `members` are final metrics.
        """
        write_json(self._run.directory / "summary.json", summary)
        self._end(summary)

    def close(self) -> None:
        """End without a summary, keeping everything logged; twice is allowed."""
        self._end({})

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _end(self, summary: Mapping[str, Any]) -> None:
        self._file.close()
        for mirror in self._mirrors:
            mirror.finish(summary)


def open_trackers(run: Run, *, offset: int | None = None) -> Trackers:
    """Open the files of a run and start the mirrors that its settings ask for.

    Args:
        run: The run; its directory exists.
        offset: Bytes of `metrics.jsonl` at the checkpoint from which the run goes on;
            None starts a new file.

    Returns:
        The one tracker; it satisfies `Tracker` and has `offset()` for checkpoints.

    Raises:
        OSError: The directory cannot be written.
        ValueError: The metrics file is shorter than `offset`.

    Example:
        >>> with open_trackers(run) as trackers:            # doctest: +SKIP
        ...     trackers.log(1000, {"evaluation/return": returns})
        ...     trackers.finish(summary)
    """
    path = run.directory / "metrics.jsonl"
    file = MetricsFile(path, offset)
    starts = _mirrors(run, resume=offset is not None)
    return Trackers(
        run, file, [Background(n, s, _history(path, offset)) for n, s in starts]
    )


def _history(path: pathlib.Path, offset: int | None) -> Iterator:
    return iter(()) if offset is None else read_rows(path, stop=offset)


def _mirrors(run: Run, resume: bool) -> list[tuple[str, Callable[[], Mirror]]]:
    """Name and maker of every mirror asked for."""
    from rl_grads.tracking import trackio, wandb

    made: list[tuple[str, Callable[[], Mirror]]] = []
    mode = wandb.resolve_mode(run.settings.wandb)
    if mode != "disabled":
        start = functools.partial(wandb.WandBMirror, run, mode, resume)
        made.append(("Weights & Biases", start))
    if run.settings.trackio:
        made.append(("Trackio", functools.partial(trackio.TrackioMirror, run, resume)))
    return made


def final_values(summary: Mapping[str, Any], member: int | None) -> dict[str, Any]:
    """The summary as one flat record: of a member, or (None) of the population.

    Args:
        summary: As `Trackers.finish` takes it.
        member: Which member.

    Returns:
        `final/<metric>` (a member's value), or `final/<metric>/mean` and `.../iqm`;
        and every plain number and text of the summary.
    """
    flat: dict[str, Any] = {}
    for name, value in summary.items():
        if isinstance(value, str | int | float):
            flat[name] = value
        elif isinstance(value, Mapping) and "members" in value:
            flat |= _final_metric(f"final/{name}", value, member)
    return flat


def _final_metric(
    name: str, value: Mapping[str, Any], member: int | None
) -> dict[str, Any]:
    if member is not None:
        return {name: value["members"][member]}
    return {f"{name}/{s}": value[s]["value"] for s in ("mean", "iqm") if s in value}


def member_names(run: Run) -> list[str]:
    """What trackers call each member: by seed, and by number where seeds repeat.

    Example:
        >>> run = Run(pathlib.Path(), "walk/today", (5, 6), ({}, {}), Tracking())
        >>> member_names(run)
        ['walk/today-seed5', 'walk/today-seed6']
        >>> member_names(run._replace(seeds=(5, 5)))
        ['walk/today-member0-seed5', 'walk/today-member1-seed5']
    """
    repeated = len(set(run.seeds)) < len(run.seeds)
    return [
        f"{run.name}-member{k}-seed{seed}" if repeated else f"{run.name}-seed{seed}"
        for k, seed in enumerate(run.seeds)
    ]


def run_ids(run: Run, tracker: str, count: int, resume: bool) -> list[str]:
    """Ids under which a tracker knows this run: new ones, or those of the resumed run.

    They are kept in `<tracker>.json` in the run's directory.
    """
    import secrets

    path = run.directory / f"{tracker}.json"
    ids = _known_ids(path) if resume else []
    if len(ids) == count:
        return ids
    ids = [secrets.token_hex(8) for _ in range(count)]
    write_json(path, {"project": run.settings.wandb.project, "ids": ids})
    return ids


def _known_ids(path: pathlib.Path) -> list[str]:
    """The ids in a file, if they are such as are made here; else none."""
    import json
    import re

    try:
        ids = json.loads(path.read_text(encoding="utf-8"))["ids"]
        fits = all(re.fullmatch("[0-9a-f]{16}", id) for id in ids)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []
    return ids if fits and isinstance(ids, list) else []
