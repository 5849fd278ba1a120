"""Meta-gradients: derivatives of an outer loss through inner updates."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_grads.meta import estimators
    from rl_grads.meta.behaviour import behaviour_matching
    from rl_grads.meta.differentiate import MetaGradient, gradient, truth_meter
    from rl_grads.meta.inner import Batch, Descent

__all__ = [
    "Batch",
    "Descent",
    "MetaGradient",
    "behaviour_matching",
    "estimators",
    "gradient",
    "truth_meter",
]

_HOME = {
    "Batch": "inner",
    "Descent": "inner",
    "MetaGradient": "differentiate",
    "behaviour_matching": "behaviour",
    "gradient": "differentiate",
    "truth_meter": "differentiate",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _HOME:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
