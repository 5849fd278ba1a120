"""Config of the replay memory. Imports no JAX."""

from rl_grads.config import (
    at_least,
    config,
    group,
    non_negative,
    number,
    one_of,
    setting,
)
from rl_grads.register import Registered


@config
class Importance:
    """Correction of the bias that prioritised sampling brings."""

    exponent: float = number(1.0, "exponent of the importance weights", non_negative)
    exponent_final: float | None = number(
        None,
        "exponent at the end of training, reached linearly",
        non_negative,
        anneals="exponent",
    )
    normalise: str = setting(
        "mean",
        "divide the weights by the largest or the mean of the batch, or not",
        one_of("max", "mean", "none"),
    )


@config("replay/buffer")
class Replay:
    """A ring of past transitions that updates sample from."""

    capacity: int = setting(100_000, "transitions kept", at_least(1))
    priority: str = setting(
        "uniform", "what sampling is proportional to", Registered("priority")
    )
    sampler: str | None = setting(
        None, "how batches are drawn in the place of priorities", Registered("sampler")
    )
    exponent: float = number(1.0, "exponent of the priorities", non_negative)
    large_batch: int = setting(
        4,
        "priority large_batch: how many batches are drawn to choose one from",
        at_least(1),
    )
    importance: Importance = group(Importance, "weights of prioritised samples")
