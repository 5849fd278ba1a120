"""Which gradient estimator a config asks for."""

from rl_grads import register
from rl_grads.gradients import estimators
from rl_grads.gradients.estimators import Estimator
from rl_grads.gradients.last_layer_norms import last_layer_norms
from rl_grads.gradients.per_example_clip import default, is_asked
from rl_grads.gradients.resampling import resampled
from rl_grads.replay import large_batch, priorities
from rl_grads.training.schema import Config
from rl_grads.typing import Network


def estimator(config: Config, network: Network) -> Estimator | None:
    """The estimator whose signals the priorities need; None: the agent's own choice.

    Args:
        config: The whole config; `replay` and `gradient` are read.
        network: `apply(params, obs)`, whose last layer may be asked for.
    """
    if config.gradient.estimator is not None:
        return register.get("estimator", config.gradient.estimator)(config)
    scheme = priorities.scheme(config)
    if scheme.resamples:
        return resampled(default(config), large_batch.choose)
    if scheme.needs == "gradient_norm" and not is_asked(config):
        return estimators.gradient_norms()
    if scheme.needs == "gradient_norm_last_layer":
        return last_layer_norms(default(config), network.apply)
    return default(config) if is_asked(config) else None
