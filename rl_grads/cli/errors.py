"""One short message for every kind of bad input."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from rl_grads.config import ConfigError, describe, fields, nearest, walk
from rl_grads.training.schema import Config

KNOWN = (ConfigError, HydraException, OmegaConfBaseException)


def guard(command: str, call: Callable[[], None]) -> int:
    """Call and return the exit status: bad input gives 2 and one message.

    `HYDRA_FULL_ERROR=1` in the environment shows the traceback instead.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing.
    try:
        call()
    except KNOWN as error:
        if wants_traceback:
            raise
        print(f"{command}: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def explain(error: BaseException) -> str:
    """The key, its value, what was expected and the nearest valid name."""
    chain = list(_causes(error))
    for one in chain:
        if isinstance(one, ConfigError):
            return str(one)
        if isinstance(one, MissingConfigException):
            return _missing(one)
        if isinstance(one, OmegaConfBaseException) and one.full_key:
            return _key(one)
    return " ".join(str(chain[0]).split())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _missing(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    known = [str(o) for o in error.options or ()]
    if not group:
        return f"{option}: no such config{nearest(option, known)}"
    expected = ", ".join(o for o in known if o != "schema")
    return f"{group}={option}: expected one of {expected}{nearest(option, known)}"


def _key(error: OmegaConfBaseException) -> str:
    key = str(error.full_key)
    field = _declared(key)
    if field is not None:
        return f"{key}={_value(error)!r}: expected {describe(field)}"
    return f"{key}: no such key{nearest(key.rpartition('.')[2], _siblings(error))}"


def _value(error: OmegaConfBaseException) -> Any:
    return error.value if error.value is not None else str(error).split("'")[1]


def _declared(key: str) -> Any:
    known = {path: field for path, field, _ in walk(Config())}
    return known.get(key)


def _siblings(error: OmegaConfBaseException) -> list[str]:
    if isinstance(error.object_type, type):
        return [f.name for f in fields(error.object_type)]
    return []
