"""Agents, a page each, loaded on first use."""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_grads.agents.agent import Agent, AgentState
    from rl_grads.agents.n_step_td import n_step_td
    from rl_grads.agents.prediction import prediction
    from rl_grads.agents.q_learning import q_learning
    from rl_grads.agents.td_lambda import td_lambda

__all__ = [
    "Agent",
    "AgentState",
    "n_step_td",
    "prediction",
    "q_learning",
    "td_lambda",
]

_PAGES = ("n_step_td", "prediction", "q_learning", "td_lambda")


class _Agents(types.ModuleType):
    """Binds the name of a page to its function, where Python would bind the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PAGES and isinstance(value, types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Agents


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    page = name if name in _PAGES else "agent"
    return getattr(importlib.import_module(f"{__name__}.{page}"), name)
