"""What messages about configs are made of."""

import difflib
from collections.abc import Iterable

from rl_grads.typing import Value


class ConfigError(ValueError):
    """Bad input. The message names the key, the value and what was expected."""

    __module__ = "rl_grads.config"  # Where users find it, and tracebacks name it.


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known name, else the empty string."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: Value) -> str:
    """A value in a message: one line, the middle of a long one left out.

    Example:
        >>> shown("ab" * 50)
        "'abababababababababababababababa...bababababababababababababababab'"
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no integer of more than 4300 digits.
        text = f"{type(value).__name__} of thousands of digits"
    return shorten(text)


def shorten(text: str, length: int = 64) -> str:
    """Text with the middle left out where it is longer than so many characters."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"
