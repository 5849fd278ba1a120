"""A mirror in a thread of its own: training never waits for a tracker."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rl_grads.tracking.files import Row
from rl_grads.typing import Json

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.5

# Two trackers share many libraries; importing them side by side can show one of the
# two threads a half-made module.
IMPORTING = threading.Lock()


class Mirror(Protocol):
    """What shows the rows of the metrics file somewhere else."""

    def log(self, rows: Sequence[Row]) -> None:
        """Take the rows of one logged step, one per member."""
        ...

    def finish(self, summary: Mapping[str, Json]) -> None:
        """Send what is left; the summary is empty if the run was cut off."""
        ...


class Background:
    """Feeds a mirror; its first failure is one warning, and then it is dropped.

    The thread keeps the interpreter alive until everything logged has been handed
    over, also when the program ends by an exception and `finish` is never called.

    Args:
        name: The tracker's name, for the warning.
        start: Makes the mirror, in the thread.
        history: Rows to hand over before the live ones (resuming a run).
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Mirror],
        history: Iterable[Sequence[Row]] = (),
    ):
        self._name, self._start, self._history = name, start, history
        self._queue: queue.SimpleQueue[Sequence[Row] | None] = queue.SimpleQueue()
        self._summary: Mapping[str, Any] = {}
        self._thread = threading.Thread(target=self._work, name=f"tracking {name}")
        self._thread.start()

    def log(self, rows: Sequence[Row]) -> None:
        """Queue the rows of one logged step."""
        if self._thread.is_alive():
            self._queue.put(rows)

    def finish(self, summary: Mapping[str, Json]) -> None:
        """Wait until everything is handed over; calling it twice is allowed."""
        self._summary = summary or self._summary
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            mirror = self._start()
            for rows in itertools.chain(self._history, self._queued()):
                mirror.log(rows)
            mirror.finish(self._summary)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _LOG.warning("%s is switched off: %s", self._name, reason)

    def _queued(self) -> Iterator[Sequence[Row]]:
        """Rows as they come, until `finish` or the end of the main thread."""
        while True:
            try:
                rows = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                rows = () if threading.main_thread().is_alive() else None
            if rows is None:
                return
            if rows:
                yield rows
