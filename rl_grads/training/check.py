"""The door of training: whether the parts of a config fit each other."""

from typing import Any

from rl_grads.config import ConfigError
from rl_grads.training.engine import Given
from rl_grads.training.schema import Config


def check(config: Config, given: Given) -> None:
    """Refuse a config whose parts do not fit each other or the environment.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    _check_lengths(config)
    _check_target(config)
    _check_environment(config, given)


def _refuse(key: str, value: Any, expected: str) -> None:
    raise ConfigError(f"{key}={value!r}: expected {expected}")


def _check_lengths(config: Config) -> None:
    training = config.training
    per = training.num_envs * training.num_steps
    if training.total_steps < per:
        expected = f"at least training.num_envs * training.num_steps ({per})"
        _refuse("training.total_steps", training.total_steps, expected)
    if config.replay is None:
        if training.updates_per_iteration != 1:
            expected = "1 where replay is null: new transitions are used once"
            _refuse(
                "training.updates_per_iteration",
                training.updates_per_iteration,
                expected,
            )
    elif training.warmup_steps + per > training.total_steps:
        expected = f"less than training.total_steps ({training.total_steps})"
        _refuse("training.warmup_steps", training.warmup_steps, expected)


def _check_target(config: Config) -> None:
    target = getattr(config.agent, "target", None)
    if target is not None and target.period is not None and target.polyak is not None:
        expected = "null beside agent.target.polyak: copy or average, not both"
        _refuse("agent.target.period", target.period, expected)


def _check_environment(config: Config, given: Given) -> None:
    if given.environment is None:
        from rl_grads.envs import make

        make.check(config.env)
