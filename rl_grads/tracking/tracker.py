"""One tracker for the training loop: files, and the mirrors that the config asks for.

Files are the truth, and their errors propagate. A mirror that fails warns once and is
dropped. When a run is resumed its mirrors are fed again from the file, cut at the
checkpoint, so that they show what the file says and nothing twice.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from rl_grads import register
from rl_grads.tracking.background import Background, Mirror
from rl_grads.tracking.files import MetricsFile, make_rows, read_rows, write_json
from rl_grads.tracking.run import Run
from rl_grads.typing import Json

if TYPE_CHECKING:
    import numpy as np


class Tracker(Protocol):
    """What the training loop sees."""

    def log(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Take the metrics of one logged step, each of shape `[members]`."""
        ...

    def finish(self, summary: Mapping[str, Json]) -> None:
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

    def finish(self, summary: Mapping[str, Json]) -> None:
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

    def _end(self, summary: Mapping[str, Json]) -> None:
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

    makers: list[tuple[str, Callable[[], Mirror]]] = []
    mode, shows = wandb.resolve_mode(run.settings.wandb), run.settings.runs != "none"
    if shows and mode != "disabled":
        start = functools.partial(wandb.WandBMirror, run, mode, resume)
        makers.append(("Weights & Biases", start))
    if shows and run.settings.trackio:
        makers.append(
            ("Trackio", functools.partial(trackio.TrackioMirror, run, resume))
        )
    for name in run.settings.own:
        makers.append((name, functools.partial(register.get("tracker", name), run)))
    return makers
