"""The door of training: whether the parts of a config fit each other."""

from rl_grads.envs.environment import Environment
from rl_grads.training.checks import (
    contracts,
    diagnostics,
    lengths,
    meta,
    needs,
    network,
    replay_size,
    room,
)
from rl_grads.training.checks.refusal import refuse
from rl_grads.training.engine import Given
from rl_grads.training.population import check_precision, check_seeds
from rl_grads.training.schema import Config


def check(config: Config, given: Given, members: int | None = None) -> None:
    """Refuse a config whose parts do not fit each other or the environment.

    Args:
        config: The config.
        given: What was handed over as objects.
        members: How many share its structure; None: `seeds`.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    check_seeds(config)
    check_precision(config)
    lengths.check(config)
    _check_target(config)
    diagnostics.check_memory(config)
    contracts.check_arguments(config)
    environment = _environment(config, given)
    replay_size.check(config, environment)
    needs.check(config, given.agent, environment)
    contracts.check(config, given)
    if given.agent is None:
        network.check(config, environment)
    diagnostics.check_activations(config, given, environment)
    meta.check(config, Given(given.agent, environment))
    count = config.seeds if members is None else members
    room.check(config, given, environment, count)  # Makes a state: all else fits.


def _check_target(config: Config) -> None:
    target = getattr(config.agent, "target", None)
    if target is not None and target.period is not None and target.polyak is not None:
        expected = "null beside agent.target.polyak: copy or average, not both"
        refuse("agent.target.period", target.period, expected)


def _environment(config: Config, given: Given) -> Environment:
    """The environment that training will use."""
    if given.environment is not None:
        return given.environment
    from rl_grads.envs import make

    make.check(config.env)
    return make.make(config.env)
