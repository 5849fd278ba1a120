"""Environments of one contract, see `rl_grads.envs.environment`.

>>> import rl_grads as rg
>>> rg.envs.check("gymnax/CartPole-v1", episodes=1)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_grads.envs.contract import check

__all__ = ["check"]


def __getattr__(name: str) -> Any:
    if name != "check":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rl_grads.envs.contract import check

    return check
