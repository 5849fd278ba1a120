"""Whose object it was: file and line of what a user has handed over. Imports no JAX."""

import contextlib
import inspect
import os
import pathlib
import sysconfig
import traceback
from collections.abc import Iterator
from types import CodeType

from rl_grads.config import ConfigError, shorten
from rl_grads.typing import PyTree

_OURS = f"{pathlib.Path(__file__).parent}{os.sep}"
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "stdlib")})
PAGE = "docs/extending.md"


def is_own(component: object) -> bool:
    """Whether an object was made outside of this package.

    Example:
        >>> is_own(is_own), is_own(lambda: 1)
        (False, True)
    """
    path = _file(component)
    return path is None or not path.startswith(_OURS)


def place(component: object) -> str:
    """`file.py:12`, where an object is defined; empty where that is not known.

    Example:
        >>> place(place).partition(":")[0].endswith("blame.py")
        True
    """
    code = _code(component)
    if code is not None:
        return f"{_short(code.co_filename)}:{code.co_firstlineno}"
    path = _file(component)
    if path is None:
        return ""
    try:
        lines = inspect.getsourcelines(_plain(component))  # type: ignore[arg-type]
        return f"{_short(path)}:{lines[1]}"
    except (OSError, TypeError):
        return _short(path)


def words(error: BaseException) -> str:
    """`TypeError: what it says`, on one line, with the place outside of this package
    that was the last to be called.

    Example:
        >>> words(ValueError("no"))
        'ValueError: no'
    """
    text = " ".join(str(error).split()) or "no message"
    at = _last_outside(error)
    said = f"{type(error).__name__}: {shorten(text, 200)}"
    return f"{said} ({at})" if at else said


@contextlib.contextmanager
def calling(what: str, component: object) -> Iterator[None]:
    """Say whose an error is that a user's object raises.

    Args:
        what: How the object was asked for, `agent.loss=mine`.
        component: The object.

    Raises:
        ConfigError: In the place of whatever it raises.

    Example:
        >>> with calling("env=mine", None):
        ...     raise KeyError("size")
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: env=mine raised KeyError: 'size'; see \
docs/extending.md
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        said = f"{named(what, component)} raised {words(error)}"
        raise ConfigError(f"{said}; see {PAGE}") from error


def named(what: str, component: object) -> str:
    """`agent.loss=mine (my_losses.py:12)`."""
    at = place(component)
    return f"{what} ({at})" if at else what


def shown(tree: PyTree) -> str:
    """Shapes in words: `float32[2]`, `(float32[], dict)`.

    Example:
        >>> shown((None, {"a": 1}))
        '(nothing, dict)'
    """
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return f"{tree.dtype}[{','.join(map(str, tree.shape))}]"
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return f"({', '.join(map(shown, tree))})"
    return "nothing" if tree is None else type(tree).__name__


def _plain(component: object) -> object:
    """The function or class behind a record, a partial or a decorator."""
    for name in ("score", "loss", "visit", "func"):  # Records of a priority, ...
        inner = getattr(component, name, None)
        if callable(inner) and not inspect.isroutine(component):
            return _plain(inner)
    known = inspect.isroutine(component) or inspect.isclass(component)
    if known and callable(component):
        return inspect.unwrap(component)
    return component if known else type(component)


def _code(component: object) -> CodeType | None:
    return getattr(_plain(component), "__code__", None)


def _file(component: object) -> str | None:
    plain = _plain(component)
    with contextlib.suppress(TypeError, OSError):
        return inspect.getsourcefile(plain)  # type: ignore[arg-type]
    return None


def _last_outside(error: BaseException) -> str:
    """The deepest frame that is neither ours nor of an installed package."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = (_OURS, *_INSTALLED, "<")
    outside = [f for f in frames if not f.filename.startswith(inner)]
    return f"{_short(outside[-1].filename)}:{outside[-1].lineno}" if outside else ""


def _short(path: str) -> str:
    """A path from the working directory, where it lies below."""
    with contextlib.suppress(ValueError):
        relative = os.path.relpath(path)
        return path if relative.startswith("..") else relative
    return path
