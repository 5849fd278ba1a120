"""What an environment on the host raises, in the middle of a compiled program.

JAX wraps an exception of a call to the host in pages of its own. The host keeps the
first one, so that whoever runs the program can say what it was.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from rl_grads import blame

_KEPT: list["EnvironmentFailed"] = []
# JAX writes a traceback of its own into the log for each.
logging.getLogger("jax._src.callback").addFilter(lambda record: not _KEPT)


class EnvironmentFailed(RuntimeError):
    """An environment on the host has raised; `__cause__` is what.

    Attributes:
        result: The `Result` of training until then; None where there was none yet.
    """

    result: Any = None


@contextlib.contextmanager
def noted(name: str) -> Iterator[None]:
    """Keep what is raised inside, on its way into JAX.

    Args:
        name: The environment's.
    """
    try:
        yield
    except Exception as error:
        failed = EnvironmentFailed(f"env={name} raised {blame.words(error)}")
        failed.__cause__ = error
        _KEPT.append(failed)
        raise


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise what an environment has raised inside, in the place of JAX's error.

    Example:
        >>> with told():
        ...     with noted("mine"):
        ...         raise ValueError("no licence")
        Traceback (most recent call last):
        ...
        rl_grads.envs.faults.EnvironmentFailed: env=mine raised ValueError: no licence
    """
    _KEPT.clear()
    try:
        yield
    except Exception:
        if not _KEPT:
            raise
        raise _KEPT[0] from _KEPT[0].__cause__
