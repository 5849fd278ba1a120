"""Per-example gradients for the price of one, of any JAX function.

The jaxpr of ONE example's loss is interpreted. Where a parameter meets a matrix
product, a convolution or a look-up, a zero *tap* is added to the output and the input
is returned; one batched backward pass then gives, at each such site, the factors of
every example's gradient. Norms, inner products, weighted and clipped sums follow from
the factors. A parameter used in any other way is differentiated example by example,
so the answer is exact for all; `explain` says which way was taken, and why.
"""

from rl_grads.autodiff.per_example.explanation import Explanation, explain
from rl_grads.autodiff.per_example.functions import (
    clip_factor,
    clipped_gradient,
    gradient_with_norms,
    per_example_gradients,
    per_example_norms,
    reweighted_gradients,
)
from rl_grads.autodiff.per_example.statistics import (
    GradientStatistics,
    gradient_statistics,
)

__all__ = [
    "Explanation",
    "GradientStatistics",
    "clip_factor",
    "clipped_gradient",
    "explain",
    "gradient_statistics",
    "gradient_with_norms",
    "per_example_gradients",
    "per_example_norms",
    "reweighted_gradients",
]
