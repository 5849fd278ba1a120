"""The equations of TD learning: errors, losses, policies, traces, transitions."""

from rl_grads.td import (
    directions,
    errors,
    losses,
    policies,
    tidbd,
    traces,
    transition,
)
from rl_grads.td.errors import td_error
from rl_grads.td.transition import Signals, Transition

__all__ = [
    "Signals",
    "Transition",
    "directions",
    "errors",
    "losses",
    "policies",
    "td_error",
    "tidbd",
    "traces",
    "transition",
]
