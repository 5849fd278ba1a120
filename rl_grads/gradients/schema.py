"""Config of the gradient and of the optimizer. Imports no JAX."""

from rl_grads.config import (
    Interval,
    config,
    group,
    non_negative,
    number,
    one_of,
    positive,
    setting,
    unit,
)
from rl_grads.register import Registered

_LEARNING_RATE = "step size"
_PERCENT = Interval(0.0, 100.0, low_closed=True, high_closed=True)
_DECAY = "fraction of the learning rate left at the end of training, linearly"
_LAYERS = "factor on the learning rate of single layers, by their names"


@config
class UpdateClip:
    """Clip of the whole update, before the optimizer sees it."""

    clip: str | None = setting(None, "how the update is clipped", Registered("clip"))
    max_norm: float = number(
        10.0, "largest L2 norm (clip: global_norm; of a layer: per_layer)", positive
    )
    max_abs: float = number(1.0, "largest absolute element (clip: element)", positive)
    max_rms: float = number(
        1.0, "largest root mean square of an array (clip: block_rms)", positive
    )
    max_ratio: float = number(
        0.01, "largest norm over that of the parameters, per unit (clip: agc)", positive
    )
    eps: float = number(
        1e-3, "least norm that the parameters count with (clip: agc)", positive
    )
    percentile: float = number(
        10.0, "of all norms so far, the largest one, in % (clip: autoclip)", _PERCENT
    )


@config
class GraphClip:
    """Clip inside the graph, at a place in the network, for each example by itself.

    With the squared TD error, `max_abs` at the output gives the gradient of the Huber
    loss.
    """

    max_abs: float | None = number(
        None, "largest |derivative of one example's loss| in an element there", positive
    )
    max_norm: float | None = number(
        None, "largest L2 norm of the derivative there", positive
    )
    site: str = setting(
        "output",
        "where: at the output, below the last layer (torso), or after every layer",
        one_of("output", "torso", "every_layer"),
    )


@config
class PerExampleClip:
    """Clip of every example's own gradient, before they are averaged.

    With both fields the smaller limit holds.
    """

    max_norm: float | None = number(
        None, "largest L2 norm of one example's gradient", positive
    )
    quantile: float | None = number(
        None, "the same as a quantile of the norms of all examples so far", unit
    )


@config
class Gradient:
    """What happens to the gradient between the loss and the optimizer."""

    update: UpdateClip = group(UpdateClip, "clip of the update")
    clip: GraphClip = group(GraphClip, "clip inside the graph")
    per_example: PerExampleClip = group(PerExampleClip, "clip of single examples")
    estimator: str | None = setting(
        None,
        "how a loss becomes a gradient; null: what clips and priorities ask for",
        Registered("estimator"),
    )


@config("optimizer/sgd")
class SGD:
    """Stochastic gradient descent."""

    learning_rate: float = number(0.1, _LEARNING_RATE, non_negative)
    learning_rate_decay: float | None = number(
        None, _DECAY, unit, anneals="learning_rate", relative=True
    )
    layer_factors: dict[str, float] = number({}, _LAYERS, non_negative)
    momentum: float | None = number(None, "decay of the momentum", unit)


@config("optimizer/adam")
class Adam:
    """Adam (Kingma & Ba 2015)."""

    learning_rate: float = number(1e-3, _LEARNING_RATE, non_negative)
    learning_rate_decay: float | None = number(
        None, _DECAY, unit, anneals="learning_rate", relative=True
    )
    layer_factors: dict[str, float] = number({}, _LAYERS, non_negative)
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
    layer_factors: dict[str, float] = number({}, _LAYERS, non_negative)
    decay: float = number(0.99, "decay of the mean square", unit)
    eps: float = number(1e-8, "added inside the root of the mean square", positive)
    momentum: float | None = number(None, "decay of the momentum", unit)
