"""Who is working in a folder: a lease that a living process holds and renews.

`lease.json` names the process (pid, host) and a counter that it raises every ten
seconds. Nobody compares clocks: on the same machine the process itself is looked up,
and from another one the counter is watched for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rl_grads.tracking.files import write_json
from rl_grads.typing import Json

FILE = "lease.json"
SECONDS = 10.0  # Between two renewals.
_PATIENCE = 2.5  # Renewals that a living process may miss.


class Held(Exception):
    """Another process works in the folder; the text says which."""


class Lease:
    """A folder that this process works in, until `release`.

    Args:
        directory: The folder; it exists.
        seconds: Between two renewals.

    Raises:
        Held: A living process has it.
        OSError: The folder cannot be written.

    Example:
        >>> lease = Lease(run_dir)                                  # doctest: +SKIP
        >>> holder(run_dir)                                         # doctest: +SKIP
        'process 4711 on this machine'
        >>> lease.release()                                         # doctest: +SKIP
    """

    def __init__(self, directory: pathlib.Path, seconds: float = SECONDS):
        self._path, self._seconds = pathlib.Path(directory) / FILE, seconds
        self._ended, self._counter = threading.Event(), 0
        with _alone(self._path.parent):
            found = holder(self._path.parent, seconds)
            if found is not None:
                raise Held(found)
            self._write()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the folder back; calling it twice is allowed."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if _is_own(_read(self._path) or {}):
                self._path.unlink()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds):
            self._counter += 1
            with contextlib.suppress(OSError):  # The run itself meets a bad disk.
                self._write()

    def _write(self) -> None:
        write_json(self._path, _own()._asdict() | {"counter": self._counter})


def holder(directory: pathlib.Path, seconds: float = SECONDS) -> str | None:
    """The living process that works in a folder, in words; None if there is none.

    A lease of another machine is watched for some renewals before it counts as dead.

    Args:
        directory: The folder.
        seconds: Between two renewals.
    """
    path = pathlib.Path(directory) / FILE
    found = _read(path)
    if found is None:
        return None
    if found["machine"] == _own().machine:
        alive = _began(found["pid"]) == found["began"]
        return f"process {found['pid']} on this machine" if alive else None
    deadline = time.monotonic() + _PATIENCE * seconds
    while time.monotonic() < deadline:
        time.sleep(seconds / 20)
        now = _read(path)
        if now is None:
            return None
        if now != found:
            return f"process {now['pid']} on {now['host']}"
    return None


def host(directory: pathlib.Path) -> str | None:
    """The machine that a folder's lease names, of a living process or of a dead one."""
    found = _read(pathlib.Path(directory) / FILE)
    return None if found is None else found["host"]


class _Process(NamedTuple):
    """A process, told apart from another that gets its number later."""

    host: str
    machine: str
    pid: int
    began: str


def _own() -> _Process:
    return _Process(socket.gethostname(), _machine(), os.getpid(), _began(os.getpid()))


def _is_own(lease: Mapping[str, Json]) -> bool:
    return all(lease.get(k) == v for k, v in _own()._asdict().items())


def _machine(proc: pathlib.Path = pathlib.Path("/proc")) -> str:
    """This boot of this machine, and the container in which pids are counted."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append((proc / "sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink(proc / "self/ns/pid"))
    return " ".join(parts)


def _began(pid: int) -> str:
    """When a process of this machine began, in its own ticks; empty if it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if pathlib.Path("/proc/self").exists() else _alive(pid)
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def _alive(pid: int) -> str:
    """Without /proc: whether there is such a process at all."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "alive"
    return "alive"


def _read(path: pathlib.Path) -> dict[str, Json] | None:
    """What a lease says; None where there is none, or none that one could hold."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kinds = {"host": str, "machine": str, "pid": int, "began": str, "counter": int}
    fits = isinstance(found, dict) and all(
        type(found.get(name)) is kind for name, kind in kinds.items()
    )
    return found if fits and 0 < found["pid"] < 2**31 else None


@contextlib.contextmanager
def _alone(directory: pathlib.Path) -> Iterator[None]:
    """One process at a time, where the file system can say so."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
