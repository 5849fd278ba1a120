"""The equations of TD learning: errors, losses, policies, transitions."""

from rl_grads.td import errors, losses, policies, transition
from rl_grads.td.errors import td_error
from rl_grads.td.transition import Signals, Transition

__all__ = [
    "Signals",
    "Transition",
    "errors",
    "losses",
    "policies",
    "td_error",
    "transition",
]
