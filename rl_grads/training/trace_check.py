"""What agents with traces need of the rest of a config."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rl_grads.config import ConfigError, get, schema_name
from rl_grads.envs.environment import Environment
from rl_grads.training.schema import Config

_IN_ORDER = ("td_lambda", "n_step_td")


class _Misfit(NamedTuple):
    """A key, its value as the user writes it, and what was expected."""

    key: str
    value: object
    expected: str


def check(config: Config, environment: Environment) -> None:
    """Refuse what an agent with a trace cannot use.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    for misfit in _misfits(config, environment):
        raise ConfigError(f"{misfit.key}={misfit.value}: expected {misfit.expected}")


def _misfits(config: Config, environment: Environment) -> Iterator[_Misfit]:
    agent = schema_name(config.agent)
    if agent not in _IN_ORDER:
        return
    if config.replay is not None:
        expected = f"null where agent={agent}, which learns from transitions in order"
        yield _Misfit("replay", schema_name(config.replay), expected)
    for key in ("gradient.per_example.max_norm", "gradient.per_example.quantile"):
        if get(config, key) is not None:
            expected = f"null where agent={agent}, whose updates are not batches"
            yield _Misfit(key, get(config, key), expected)
    if agent == "td_lambda":
        yield from _clips(config)
    if agent == "td_lambda" and config.agent.trace == "true_online":
        yield from _true_online(config, environment)


def _clips(config: Config) -> Iterator[_Misfit]:
    for key in ("gradient.clip.max_abs", "gradient.clip.max_norm"):
        if get(config, key) is not None:
            expected = "null where agent=td_lambda, which has no loss to clip inside"
            yield _Misfit(key, get(config, key), expected)


def _true_online(config: Config, environment: Environment) -> Iterator[_Misfit]:
    """True online TD(lambda) is exact where its step is linear and plain."""
    where = "where agent.trace=true_online"
    for group, wanted in (("network", "linear"), ("optimizer", "sgd")):
        name = schema_name(getattr(config, group))
        if name != wanted:
            yield _Misfit(group, name, f"{wanted} {where}")
    if config.training.num_envs != 1:
        yield _Misfit("training.num_envs", config.training.num_envs, f"1 {where}")
    switched_off = (
        "optimizer.momentum",
        "gradient.update.clip",
        "agent.target.period",
        "agent.target.polyak",
    )
    for key in switched_off:
        if get(config, key) is not None:
            yield _Misfit(key, get(config, key), f"null {where}")
    if _is_off_policy(environment):
        yield _Misfit("env.id", environment.name, f"an on-policy chain {where}")


def _is_off_policy(environment: Environment) -> bool:
    chain = environment.exact
    return chain is not None and not np.array_equal(chain.behaviour, chain.target)
