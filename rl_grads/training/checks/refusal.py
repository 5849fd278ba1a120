"""How a value that does not fit is refused."""

from typing import Any, NoReturn

from rl_grads.config import ConfigError


def refuse(key: str, value: Any, expected: str) -> NoReturn:
    """Raise the message of a value that does not fit."""
    raise ConfigError(f"{key}={value!r}: expected {expected}")
