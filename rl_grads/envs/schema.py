"""Config of the environment. Imports no JAX."""

from typing import Any

from rl_grads.config import at_least, config, group, number, plain, positive, setting
from rl_grads.register import Registered


@config
class Wrappers:
    """Changes to an environment; `null` leaves the wrapper out of the program."""

    reward_scale: float | None = number(None, "factor on every reward")
    reward_clip: float | None = number(
        None, "largest |reward|, applied after the scale", positive
    )
    frame_stack: int | None = setting(
        None, "observations stacked on a new last axis", at_least(2)
    )
    normalise_observation: float | None = number(
        None,
        "subtract the running mean, divide by sqrt(running variance + this)",
        positive,
    )
    own: tuple[str, ...] = setting(
        (),
        "registered wrappers around, the first innermost",
        Registered("wrapper"),
    )


@config
class Env:
    """The environment: `env=gymnax/ID`, `gymnasium/ID`, `chain/NAME` or your own."""

    id: str = setting("gymnax/CartPole-v1", "suite/name, or a registered name")
    params: dict[str, float] = number({}, "physics of a gymnax environment, by name")
    kwargs: dict[str, Any] = setting(
        {}, "arguments of its maker, by name: of a Gymnasium id, or your own", plain
    )
    wrappers: Wrappers = group(Wrappers, "changes to rewards and observations")
