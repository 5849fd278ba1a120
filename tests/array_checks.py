"""Shapes and dtypes of arrays in signatures are checked while tests run.

jaxtyping's import hook wraps every function of a module that imports jaxtyping, so it
has to be installed before those are imported. What is no array is left alone: configs
and transitions in tests are whatever has the fields.
"""

import typing
from collections.abc import Callable

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

from scripts.rooms import PACKAGE, modules


def install() -> None:
    """Check the modules whose arrays have shapes."""
    checked = [
        n for n, path in modules(PACKAGE).items() if _annotates(path.read_text())
    ]
    install_import_hook(checked, f"{__name__}.arrays_only")


def _annotates(source: str) -> bool:
    return "from jaxtyping import" in source or "from rl_grads.arrays import" in source


def arrays_only(function: Callable) -> Callable:
    """`beartype`, of a function's arrays alone."""
    hints = {k: h for k, h in function.__annotations__.items() if _has_array(h)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)


def _has_array(hint: object) -> bool:
    inner = map(_has_array, typing.get_args(hint))
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(inner)
