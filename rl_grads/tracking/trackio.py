"""Trackio: the runs of a point, grouped, in its local store. Never a server or a hub.

`trackio.init` is passed by: it asks Hugging Face for the user's name, holds one run at
a time and measures the machine. The store behind it takes whole batches.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Mapping, Sequence

from rl_grads.tracking.background import IMPORTING
from rl_grads.tracking.files import Row
from rl_grads.tracking.run import Run, run_ids
from rl_grads.tracking.shown import config, shown, values
from rl_grads.typing import Document, Json

_WRITE_SECONDS = 10.0


class TrackioMirror:
    """Writes the rows of members, or of a point, to Trackio's store every ten seconds.

    Args:
        run: The run; the project's name is that of W&B.
        resume: Go on with the run whose ids stand in the directory: what the store
            has of it is replaced.
    """

    def __init__(self, run: Run, resume: bool):
        with IMPORTING:
            from trackio import fragments, sqlite_storage, utils
        self._store = sqlite_storage.SQLiteStorage
        self._record = fragments.metric_record
        self._inbox = fragments.FragmentWriter()
        self._network_disk = utils.get_storage_mode() == "jsonl"
        self._run = run
        self._project = run.settings.wandb.project
        self._shown = shown(run)
        self._configs = [
            dict(_flat(config(run, mirrored), "")) for mirrored in self._shown
        ]
        ids = run_ids(run, "trackio", len(self._shown), resume)
        self._ids = ids.now
        self._waiting: list[tuple[datetime.datetime, Sequence[Row]]] = []
        self._written = time.monotonic()
        self._store.validate_project_name(self._project)
        if resume and not self._network_disk:
            for id in ids.before:  # Names are no ids: another run may have this one's.
                self._store.delete_run(self._project, id, run_id=id)

    def log(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one step and write now and then."""
        self._waiting.append((datetime.datetime.now(datetime.UTC), rows))
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self._write()

    def finish(self, summary: Mapping[str, Json]) -> None:
        """Write what is left."""
        self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in range(len(self._shown)) if waiting else ():
            entries = [self._entry(place, *logged) for logged in waiting]
            if self._network_disk:
                self._inbox.write_local([self._record(entry) for entry in entries])
            else:
                self._write_database(entries)
        self._written = time.monotonic()

    def _write_database(self, entries: Sequence[Mapping[str, Json]]) -> None:
        def column(name: str) -> list[Json]:
            return [entry[name] for entry in entries]

        first = entries[0]
        self._store.bulk_log(
            project=first["project"],
            run=first["run"],
            run_id=first["run_id"],
            config=first["config"],
            metrics_list=column("metrics"),
            steps=column("step"),
            timestamps=column("timestamp"),
            log_ids=column("log_id"),
        )

    def _entry(
        self, place: int, time: datetime.datetime, rows: Sequence[Row]
    ) -> Document:
        """What the store has of the rows of one step, of one of its runs."""
        mirrored, id, step = self._shown[place], self._ids[place], rows[0]["step"]
        # The dashboard lists runs by their first time: members in order.
        timestamp = (time + datetime.timedelta(microseconds=place)).isoformat()
        return {
            "project": self._project,
            "run": mirrored.name,
            "run_id": id,
            "config": self._config(place, timestamp),
            "metrics": values(self._run, mirrored, rows),
            "step": step,
            "timestamp": timestamp,
            # The store ignores an id that it has.
            "log_id": f"{id}-{step}",
        }

    def _config(self, place: int, timestamp: str) -> Document:
        """The config with the keys by which the dashboard groups runs.

        Keys are dotted paths: its run page shows one level.
        """
        hidden = {
            "_Group": self._run.group or self._run.name,
            "_Created": timestamp,
            "_Username": None,
        }
        return {**self._configs[place], **hidden}


def _flat(nested: Mapping[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    """Nested values by their dotted paths."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
