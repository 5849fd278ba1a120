"""Config of the gradient and of the optimizer. Imports no JAX."""

from rl_grads.config import (
    Registered,
    config,
    group,
    non_negative,
    number,
    positive,
    setting,
    unit,
)

_LEARNING_RATE = "step size"
_DECAY = "fraction of the learning rate left at the end of training, linearly"


@config
class UpdateClip:
    """Clip of the whole update, before the optimizer sees it."""

    clip: str | None = setting(None, "how the update is clipped", Registered("clip"))
    max_norm: float = number(10.0, "largest L2 norm (clip: global_norm)", positive)
    max_abs: float = number(1.0, "largest absolute element (clip: element)", positive)


@config
class GraphClip:
    """Clip inside the graph, at the network's output, for each example by itself.

    With the squared TD error, `max_abs` gives the gradient of the Huber loss.
    """

    max_abs: float | None = number(
        None, "largest |derivative of one example's loss| in an output", positive
    )
    max_norm: float | None = number(
        None, "largest L2 norm of the derivative in all outputs", positive
    )


@config
class Gradient:
    """What happens to the gradient between the loss and the optimizer."""

    update: UpdateClip = group(UpdateClip, "clip of the update")
    clip: GraphClip = group(GraphClip, "clip inside the graph")


@config("optimizer/sgd")
class SGD:
    """Stochastic gradient descent."""

    learning_rate: float = number(0.1, _LEARNING_RATE, non_negative)
    learning_rate_decay: float | None = number(
        None, _DECAY, unit, anneals="learning_rate", relative=True
    )
    momentum: float | None = number(None, "decay of the momentum", unit)


@config("optimizer/adam")
class Adam:
    """Adam (Kingma & Ba 2015)."""

    learning_rate: float = number(1e-3, _LEARNING_RATE, non_negative)
    learning_rate_decay: float | None = number(
        None, _DECAY, unit, anneals="learning_rate", relative=True
    )
    b1: float = number(0.9, "decay of the first moment", unit)
    b2: float = number(0.999, "decay of the second moment", unit)
    eps: float = number(1e-8, "added to the root of the second moment", positive)
    eps_root: float = number(
        0.0, "added inside the root; > 0 for meta-gradients", non_negative
    )


@config("optimizer/rmsprop")
class RMSProp:
    """RMSProp (Tieleman & Hinton 2012)."""

    learning_rate: float = number(1e-3, _LEARNING_RATE, non_negative)
    learning_rate_decay: float | None = number(
        None, _DECAY, unit, anneals="learning_rate", relative=True
    )
    decay: float = number(0.99, "decay of the mean square", unit)
    eps: float = number(1e-8, "added inside the root of the mean square", positive)
    momentum: float | None = number(None, "decay of the momentum", unit)
