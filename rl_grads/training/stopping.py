"""Being asked to stop: training asks between pieces, and ends where all is whole."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from rl_grads.typing import PyTree


@contextlib.contextmanager
def on_interrupt() -> Iterator[Callable[[], bool]]:
    """While it lasts, a first Ctrl-C is noted and a second one interrupts.

    Only the main thread of a process gets signals, and a handler of the user's own
    stays: elsewhere nothing ever asks to stop, and an interrupt is one.

    Yields:
        Whether it has come.
    """
    asked = threading.Event()
    standard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not standard or threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(signum: int, frame: PyTree) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
