"""`--plugin MODULE`: import a user's module so that what it registers has a name."""

import importlib
import os
import sys
from collections.abc import Sequence

from rl_grads.config import ConfigError


def load(argv: Sequence[str]) -> list[str]:
    """Import every `--plugin MODULE` and return the other arguments.

    Modules are found as Python finds them, and in the working directory.

    Raises:
        ConfigError: The module does not exist.
    """
    rest, names = [], []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--plugin":
            names.append(next(arguments, ""))
        elif argument.startswith("--plugin="):
            names.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    for name in names:
        _import(name)
    return rest


def _import(name: str) -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(f"--plugin {name}: no such module") from error
