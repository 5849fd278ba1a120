"""Reference scores: what returns of different environments are measured by.

A normalised score is 0 where the uniform policy is and 1 at the reference. Add your
own: `rg.results.REFERENCES["my_env"] = rg.results.Reference(0.0, 1.0, "its maximum")`.
"""

from typing import NamedTuple

import numpy as np

from rl_grads.typing import PyTree


class Reference(NamedTuple):
    """Scores of an environment that are 0 and 1 when they are normalised.

    Attributes:
        low: Return of the uniform policy.
        high: Return of a policy that has solved it.
        source: Where `high` comes from.
    """

    low: float
    high: float
    source: str


_THRESHOLD = "reward_threshold of Gymnasium 1.3"
# By the name of an id, without its suite. Low ends: means over 300 to 20,000 episodes
# of the uniform policy in Gymnasium 1.3, standard errors below 2 % of high - low.
REFERENCES = {
    "CartPole-v1": Reference(22.2, 500.0, "longest episode"),
    "Acrobot-v1": Reference(-499.2, -100.0, _THRESHOLD),
    "MountainCar-v0": Reference(-200.0, -110.0, _THRESHOLD),
    "FrozenLake-v1": Reference(0.012, 0.7, _THRESHOLD),
    "LunarLander-v3": Reference(-180.5, 200.0, _THRESHOLD),
}


def reference(environment: str) -> Reference | None:
    """The reference of an environment; None where there is none.

    Args:
        environment: Its id, with or without the suite.

    Example:
        >>> reference("gymnax/CartPole-v1").high
        500.0
    """
    return REFERENCES.get(environment, REFERENCES.get(environment.rpartition("/")[2]))


def normalised(values: PyTree, by: Reference) -> np.ndarray:
    """Scores as parts of the way from the uniform policy to the reference.

    Example:
        >>> normalised([-200.0, -155.0], REFERENCES["MountainCar-v0"]).tolist()
        [0.0, 0.5]
    """
    return (np.asarray(values, np.float64) - by.low) / (by.high - by.low)
