"""`--plugin MODULE`: import a user's module so that what it registers has a name."""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rl_grads import blame, register
from rl_grads.config import ConfigError

_ENV = re.compile(r"\+*env(\.id)?=")
_MODULE = re.compile(r"gymnasium/([\w.]+):")


class Split(NamedTuple):
    """A command line taken apart."""

    plugins: tuple[str, ...]
    arguments: list[str]


def split(argv: Sequence[str]) -> Split:
    """Separate every `--plugin MODULE` (or `--plugin=MODULE`) from the rest.

    `env=gymnasium/MODULE:ID` asks for the module as well, as Gymnasium reads such ids.

    Raises:
        ConfigError: The name of the module is missing.
    """
    rest, names = [], []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--plugin":
            names.append(next(arguments, ""))
        elif argument.startswith("--plugin="):
            names.append(argument.partition("=")[2])
        elif _ENV.match(argument):
            names += _MODULE.findall(argument)
            rest.append(_MODULE.sub("gymnasium/", argument))
        else:
            rest.append(argument)
    for name in names:
        if not name or name.startswith("-") or "=" in name:
            raise ConfigError(f"--plugin={name}: expected the name of a Python module")
    return Split(tuple(names), rest)


def load(names: Sequence[str]) -> None:
    """Import installed plugins and the named modules, each once per process.

    Modules are found as Python finds them, and in the working directory.

    Raises:
        ConfigError: A module does not exist, or cannot be imported.
    """
    register.load_plugins()
    for name in names:
        _import(name)


def _import(name: str) -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Another name is a module that the plugin itself misses.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _mistake(name, error) from error
        expected = "expected a module on Python's path or in the working directory"
        raise ConfigError(f"--plugin={name}: {expected}") from error
    except ConfigError as error:
        raise ConfigError(f"--plugin={name}: {error}") from error
    except Exception as error:
        raise _mistake(name, error) from error


def _mistake(name: str, error: Exception) -> ConfigError:
    return ConfigError(f"--plugin={name}: importing it raised {blame.words(error)}")
