"""rl_grads: a laboratory for the gradients of temporal-difference learning.

    import rl_grads as rg

    members = rg.population(rg.Config(), seeds=range(10))
    result = rg.train(members=members, total_steps=50_000)

Everything is loaded on first use, so `import rl_grads` costs nothing.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_grads import (
        agents,
        autodiff,
        config,
        envs,
        inspection,
        meta,
        register,
        results,
        studies,
        td,
        training,
    )
    from rl_grads.cli.library import compose
    from rl_grads.config import ConfigError, replace
    from rl_grads.training.population import Member, population
    from rl_grads.training.result import Result
    from rl_grads.training.schema import Config
    from rl_grads.training.train import train

__all__ = [
    "Config",
    "ConfigError",
    "Member",
    "Result",
    "agents",
    "autodiff",
    "compose",
    "config",
    "envs",
    "inspection",
    "meta",
    "population",
    "register",
    "replace",
    "results",
    "studies",
    "td",
    "train",
    "training",
]

_HOME = {
    "Config": "training.schema",
    "ConfigError": "config",
    "Member": "training.population",
    "Result": "training.result",
    "compose": "cli.library",
    "population": "training.population",
    "replace": "config",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version(__name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _HOME:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
