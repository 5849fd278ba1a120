"""The equations of TD learning: errors, losses, policies, transitions."""

from rl_grads.td import errors, losses, policies, transition

__all__ = ["errors", "losses", "policies", "transition"]
