"""Agents, loaded on first use; each has a page in `rl_grads.agents.pages`."""

import importlib
from typing import TYPE_CHECKING, Any

from rl_grads.config import as_pytree

if TYPE_CHECKING:
    from rl_grads.agents.agent import Agent, AgentState
    from rl_grads.agents.pages.n_step_td import n_step_td
    from rl_grads.agents.pages.prediction import prediction
    from rl_grads.agents.pages.q_learning import q_learning
    from rl_grads.agents.pages.td_lambda import td_lambda

__all__ = [
    "Agent",
    "AgentState",
    "n_step_td",
    "prediction",
    "q_learning",
    "td_lambda",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "agent" if name in ("Agent", "AgentState") else f"pages.{name}"
    found = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    as_pytree()  # JAX is loaded now: configs can be arguments of compiled updates.
    return found
