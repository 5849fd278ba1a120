"""How a value that does not fit is refused."""

from typing import NoReturn

from rl_grads.config import ConfigError
from rl_grads.typing import PyTree


def refuse(key: str, value: PyTree, expected: str) -> NoReturn:
    """Raise the message of a value that does not fit."""
    raise ConfigError(f"{key}={value!r}: expected {expected}")
