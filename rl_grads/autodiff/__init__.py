"""Transforms of any JAX function; knows nothing of RL, configs or files."""

from rl_grads.autodiff.check_rule import RuleError, check_rule
from rl_grads.autodiff.clip import clip_gradient
from rl_grads.autodiff.derivatives import (
    hessian,
    jacobian,
    nth_derivative,
    vector_gradient,
)
from rl_grads.autodiff.mixed_mode import mixed_mode_grad, unroll
from rl_grads.autodiff.numerics import log1pexp, root_ratio, safe_norm
from rl_grads.autodiff.per_example import (
    clipped_gradient,
    explain,
    gradient_statistics,
    gradient_with_norms,
    per_example_gradients,
    per_example_norms,
    reweighted_gradients,
)
from rl_grads.autodiff.products import hvp, jvps, vjps
from rl_grads.autodiff.surrogates import (
    gumbel_straight_through,
    reinmax,
    straight_through,
)

__all__ = [
    "RuleError",
    "check_rule",
    "clip_gradient",
    "clipped_gradient",
    "explain",
    "gradient_statistics",
    "gradient_with_norms",
    "gumbel_straight_through",
    "hessian",
    "hvp",
    "jacobian",
    "jvps",
    "log1pexp",
    "mixed_mode_grad",
    "nth_derivative",
    "per_example_gradients",
    "per_example_norms",
    "reinmax",
    "reweighted_gradients",
    "root_ratio",
    "safe_norm",
    "straight_through",
    "unroll",
    "vector_gradient",
    "vjps",
]
