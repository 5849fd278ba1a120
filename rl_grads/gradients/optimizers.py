"""Optimizers from configs: optax, with every number traced.

They are built anew inside each trace, so a learning rate or a clip threshold is an
input of the compiled program. Schedules are not in here: `config.anneal` exchanges
the numbers themselves.
"""

from typing import Any

import optax

from rl_grads import register
from rl_grads.config import schema_name


def make(config: Any) -> optax.GradientTransformation:
    """The clip of the update followed by the optimizer that a config names.

    Args:
        config: The whole config: `optimizer` and `gradient.update` are read.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> state = make(Config()).init({"w": 1.0})
    """
    optimizer = register.get("optimizer", schema_name(config.optimizer))
    made = optimizer(config.optimizer)
    name = config.gradient.update.clip
    if name is None:
        return made
    return optax.chain(register.get("clip", name)(config.gradient.update), made)


def sgd(config: Any) -> optax.GradientTransformation:
    """Stochastic gradient descent, with heavy-ball momentum (Polyak 1964) if any."""
    return optax.sgd(config.learning_rate, config.momentum)


def adam(config: Any) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015)."""
    return optax.adam(
        config.learning_rate, config.b1, config.b2, config.eps, config.eps_root
    )


def rmsprop(config: Any) -> optax.GradientTransformation:
    """RMSProp (Tieleman & Hinton 2012), with eps inside the root."""
    return optax.rmsprop(
        config.learning_rate, config.decay, config.eps, momentum=config.momentum
    )


def clip_global_norm(config: Any) -> optax.GradientTransformation:
    """Scale the whole update down to `max_norm`."""
    return optax.clip_by_global_norm(config.max_norm)


def clip_element(config: Any) -> optax.GradientTransformation:
    """Clip every element to `[-max_abs, max_abs]`."""
    return optax.clip(config.max_abs)
