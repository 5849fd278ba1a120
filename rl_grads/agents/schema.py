"""Configs of agents and networks. Imports no JAX."""

from rl_grads.config import (
    at_least,
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

_TD_GRADIENT = "where the gradient of the TD error stops, or what replaces it"
_INTERPOLATION = "part of the full gradient (td_gradient: interpolate)"


@config
class Target:
    """Target network; with both fields null the online network bootstraps."""

    period: int | None = setting(
        None, "updates between two copies of the parameters", at_least(1)
    )
    polyak: float | None = number(
        None, "step of the target towards the parameters at each update", unit
    )


@config
class Secondary:
    """Secondary weights of gradient TD methods (td_gradient: gtd2, tdc, tdrc, qrc).

    They learn by the same optimizer as the parameters.
    """

    learning_rate_ratio: float = number(
        1.0, "their step size, in units of that of the optimizer", positive
    )
    regulariser: float = number(
        1.0, "how strongly they are drawn to zero (tdrc, qrc)", non_negative
    )


@config
class BehaviourPolicy:
    """How a control agent acts while it learns."""

    name: str = setting(
        "epsilon_greedy",
        "family of policies",
        one_of("epsilon_greedy", "softmax", "uniform"),
    )
    epsilon: float = number(0.1, "probability of a uniform action", unit)
    epsilon_final: float | None = number(
        None,
        "epsilon at the end of its decay, reached linearly",
        unit,
        anneals="epsilon",
        over="epsilon_fraction",
    )
    epsilon_fraction: float = number(
        1.0, "part of training over which epsilon decays", positive
    )
    temperature: float = number(1.0, "temperature of softmax", positive)


@config("agent/q_learning")
class QLearning:
    """Action-value control with a TD(0) target."""

    loss: str = setting("q_learning", "the TD loss", Registered("loss"))
    discount: float = number(0.99, "discount per step", unit)
    target: Target = group(Target, "target network")
    behaviour_policy: BehaviourPolicy = group(BehaviourPolicy, "how it acts")
    td_gradient: str = setting("semi", _TD_GRADIENT, Registered("td_gradient"))
    interpolation: float = number(0.5, _INTERPOLATION, unit)
    secondary: Secondary = group(Secondary, "secondary weights")


@config("agent/prediction")
class Prediction:
    """Prediction of the value of the environment's target policy by TD(0)."""

    loss: str = setting("td", "the TD loss", Registered("loss"))
    discount: float = number(1.0, "discount per step", unit)
    target: Target = group(Target, "target network")
    td_gradient: str = setting("semi", _TD_GRADIENT, Registered("td_gradient"))
    interpolation: float = number(0.5, _INTERPOLATION, unit)
    secondary: Secondary = group(Secondary, "secondary weights")


@config("agent/td_lambda")
class TDLambda:
    """Prediction by TD(lambda), online (replay: null)."""

    discount: float = number(1.0, "discount per step", unit)
    trace: str = setting("accumulating", "eligibility trace", Registered("trace"))
    trace_decay: float = number(0.9, "lambda; 0 is TD(0)", unit)
    target: Target = group(Target, "target network")


@config("agent/n_step_td")
class NStepTD:
    """Prediction from n-step returns, online (replay: null)."""

    loss: str = setting("td", "the TD loss of the joined steps", Registered("loss"))
    discount: float = number(1.0, "discount per step", unit)
    n_step: int = setting(4, "steps before the bootstrap", at_least(1))
    target: Target = group(Target, "target network")


@config("network/mlp")
class MLP:
    """Fully connected network; observations are flattened."""

    hidden: tuple[int, ...] = setting((128, 128), "width of each layer", at_least(1))
    activation: str = setting("relu", "activation", one_of("relu", "tanh", "elu"))
    layer_norm: bool = setting(False, "LayerNorm (no scale, no bias) in every layer")


@config("network/linear")
class Linear:
    """One weight per feature; with one-hot observations a table."""

    initial_value: float = number(0.0, "initial value of every weight")
    initial_weights: tuple[float, ...] | None = number(
        None, "initial weights, one per feature; instead of initial_value"
    )


@config("network/convolution")
class Convolution:
    """One 3x3 convolution and dense layers (Young & Tian 2019, for MinAtar)."""

    channels: int = setting(16, "filters", at_least(1))
    hidden: tuple[int, ...] = setting((128,), "width of dense layers", at_least(1))
    activation: str = setting("relu", "activation", one_of("relu", "tanh", "elu"))
    scale: float = number(1.0, "factor on the observations (1/255 for bytes)")
