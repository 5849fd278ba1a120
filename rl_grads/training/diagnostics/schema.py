"""Config of what a run measures of itself. Imports no JAX."""

from rl_grads.config import at_least, config, non_negative, number, setting, unit
from rl_grads.register import Registered


@config
class Diagnostics:
    """Measurements beside training or between its stretches, and what they cost."""

    semi_full_cosine: bool = setting(
        True,
        "per update, the cosine between semi-gradient and full gradient (prediction); "
        "costs one backward pass through the bootstrap, half of a semi-gradient update",
    )
    sampling_variance: bool = setting(
        False,
        "per logged row, the variance of sampling schemes relative to uniform, on the "
        "run's own replay memory; costs `examples` single gradients per row",
    )
    noise_scale: bool = setting(
        False,
        "per logged row, the gradient noise scale; costs one gradient of `examples` "
        "transitions per row, together with the next three",
    )
    layer_norms: bool = setting(
        False, "per logged row, the gradient's norm in every layer; same gradient"
    )
    nonfinite_examples: bool = setting(
        False,
        "per logged row, the part of examples with a loss or a gradient that is not "
        "finite; same gradient",
    )
    interference: bool = setting(
        False,
        "per logged row, cosines between the gradients of examples; same gradient, and "
        "`examples`² inner products per layer",
    )
    update_ratios: bool = setting(
        False,
        "per logged row, the step of an update relative to the weights of each layer; "
        "costs one update per row",
    )
    dormant_threshold: float | None = number(
        None,
        "per logged row, the part of dormant units: active at most this much relative "
        "to their layer (usual: .025); costs one forward pass of `examples` "
        "observations per row, together with rank_threshold",
        non_negative,
    )
    rank_threshold: float | None = number(
        None,
        "per logged row, the effective rank of what the last layer reads: singular "
        "values that hold all but this part of their sum (usual: .01); costs that pass "
        "and one singular value decomposition",
        unit,
    )
    own: tuple[str, ...] = setting(
        (), "registered measurements, per logged row", Registered("diagnostic")
    )
    examples: int = setting(
        512, "transitions, drawn uniformly, that a measurement looks at", at_least(2)
    )
