"""TERM, INT, HUP and USR2: the state is saved, and the process ends in time.

While a run trains a signal is noted, and training ends at its next piece. Elsewhere
(importing, composing) there is nothing to save, and the process ends where it is: no
exception is raised, which an import or a destructor could swallow or take for its own.
A thread sees signals even where the main thread cannot, in a long compilation say, and
ends the process when it has not ended by itself; a second signal ends it at once.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

_SECONDS = 9.0  # From a signal to the end of the process, at the latest.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2")
_BASE = 128  # A shell's exit status is this and the signal's number.


class Interrupted(BaseException):
    """A run was stopped and is saved; the argument is the exit status."""


class Signals:
    """What signals have asked of this process.

    Attributes:
        status: The exit status that the first one asks for; None before.
        hint: Printed where the process is ended by force: how to go on.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.hint = ""
        self._gentle = False
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.status is not None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """While it lasts, a first signal is noted rather than raised."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def end(self) -> None:
        """Raise what a signal has asked for, now that everything is saved."""
        if self.status is not None:
            raise Interrupted(self.status)

    def install(self) -> None:
        """Handle the signals; those that are ignored stay so."""
        for name in _NAMES:
            number = getattr(signal, name)
            before = signal.getsignal(number)
            if not (name == "SIGHUP" and before is signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Put back what was there, and hand USR2 on to whoever handled it before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._hand_on()

    def _hand_on(self) -> None:
        """Call whoever handled USR2 before, if that is what came."""
        before = self._before.get(signal.SIGUSR2)
        if self.status == _BASE + signal.SIGUSR2 and callable(before):
            before(signal.SIGUSR2, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.status is None:
            self.status = _BASE + number
        if not self._gentle:
            self._leave(number)

    def _leave(self, number: int) -> NoReturn:
        """End the process here and now, where there is nothing to save."""
        print(f"interrupted{self.hint}", file=sys.stderr, flush=True)
        self._hand_on()
        os._exit(_BASE + number)


_WATCHING: list[Signals] = []  # Of this process; a launcher's own has none yet.


@contextlib.contextmanager
def of_this_process() -> Iterator[Signals]:
    """What signals ask of this process, which may be one that a launcher started."""
    if _WATCHING:
        yield _WATCHING[-1]
        return
    with watching() as signals:
        yield signals


@contextlib.contextmanager
def watching() -> Iterator[Signals]:
    """Watch signals while a command runs; in other threads than the main one, none.

    Yields:
        What they have asked.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    ended = threading.Event()
    arguments = (signals, reading, ended)
    threading.Thread(target=_watch, args=arguments, daemon=True, name="signals").start()
    signals.install()
    _WATCHING.append(signals)
    try:
        yield signals
    finally:
        _WATCHING.remove(signals)
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(writing)
        signals.restore()


def _watch(signals: Signals, reading: int, ended: threading.Event) -> None:
    """Read the numbers of signals as they come; end the process after the first."""
    came = 0
    while received := os.read(reading, 16):
        for number in received:
            if number not in (getattr(signal, name) for name in _NAMES):
                continue
            came += 1
            if came > 1:
                os._exit(_BASE + number)
            timer = threading.Timer(_SECONDS, _force, (signals, number, ended))
            timer.daemon = True
            timer.start()
    os.close(reading)


def _force(signals: Signals, number: int, ended: threading.Event) -> None:
    if not ended.is_set():
        print(f"ended by signal {number}{signals.hint}", file=sys.stderr, flush=True)
        os._exit(_BASE + number)
