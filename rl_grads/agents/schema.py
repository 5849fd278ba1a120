"""Configs of agents and networks. Imports no JAX."""

from rl_grads.config import (
    Registered,
    at_least,
    config,
    group,
    number,
    one_of,
    positive,
    setting,
    unit,
)


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


@config("agent/prediction")
class Prediction:
    """Prediction of the value of the environment's target policy by TD(0)."""

    loss: str = setting("td", "the TD loss", Registered("loss"))
    discount: float = number(1.0, "discount per step", unit)
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
