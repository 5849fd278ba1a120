"""Whether the parts of a config have what each of them declares that it needs.

No part is known here by its name: what a component needs stands next to it, in a
`register.Declaration`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rl_grads import register
from rl_grads.agents.agent import Agent
from rl_grads.config import (
    ConfigError,
    get,
    has_name,
    is_config,
    schema_group,
    schema_name,
    walk,
)
from rl_grads.envs.environment import Environment
from rl_grads.register import Declaration, Need, Registered
from rl_grads.replay import priorities
from rl_grads.training.schema import Config, replay_of
from rl_grads.typing import PyTree


class Part(NamedTuple):
    """A component that a config chooses.

    Attributes:
        key: Where: a section, or a field with its name.
        kind: As it is registered.
        name: Its name.
        declared: What it needs.
    """

    key: str
    kind: str
    name: str
    declared: Declaration

    def __str__(self) -> str:
        return f"{self.key}={self.name}"


def check(config: Config, agent: Agent | None, environment: Environment) -> None:
    """Refuse a config in which a part does not find what it needs.

    Args:
        config: The whole config.
        agent: One that was handed over; None: the one that the config names.
        environment: The environment that training will use.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    for message in _misfits(config, agent, environment):
        raise ConfigError(message)


def parts(config: Config) -> Iterator[Part]:
    """The registered components that a config chooses.

    Example:
        >>> [str(part) for part in parts(Config())][:2]
        ['agent=q_learning', 'agent.loss=q_learning']
    """
    for key, field, value in walk(config):
        if isinstance(field.domain, Registered):
            kind, chosen = field.domain.kind, value
        elif is_config(value) and has_name(value):
            kind, chosen = schema_group(field), schema_name(value)
        else:
            continue
        for name in chosen if isinstance(chosen, tuple) else (chosen,):
            if kind in register.KINDS and name in register.names(kind):
                declared = register.declared(register.get(kind, name))
                yield Part(key, kind, name, declared)


def _misfits(
    config: Config, agent: Agent | None, environment: Environment
) -> Iterator[str]:
    found = list(parts(config))
    if agent is not None:
        found = [part for part in found if not part.key.startswith("agent")]
        found += _handed_over(agent)
    _check_outputs(found)
    for part in found:
        yield from _of_environment(part, environment)
    for part in found:
        yield from _unmet(config, part)
    yield from _unranked(config, found)


def _check_outputs(found: list[Part]) -> None:
    """Refuse what reads other outputs than the agent's network gives."""
    for agent in (part for part in found if part.kind == "agent"):
        for part in found:
            given = (part.key, part.kind, part.name)
            register.check_outputs(*given, agent.declared.outputs, str(agent))


def _handed_over(agent: Agent) -> Iterator[Part]:
    """What is known of an agent that no config names."""
    if agent.double_sampling:
        replay = Need("replay", None, "the second draw is not stored")
        declared = Declaration((replay,), redraws=True)
        yield Part("agent", "", "one with double sampling", declared)


def _unmet(config: Config, part: Part) -> Iterator[str]:
    """What stands under other keys and should not."""
    for need in (*part.declared.needs, *register.NEEDS_OF_KIND.get(part.kind, ())):
        value = _plain(config, need.key)
        if value != need.value:
            wanted = "null" if need.value is None else need.value
            why = f": {need.why}" if need.why else ""
            yield f"{need.key}={value}: expected {wanted} beside {part}{why}"


def _plain(config: Config, key: str) -> PyTree:
    """A value, or the name of what a section holds; None where there is no such key."""
    try:
        value = get(config, key)
    except ConfigError:
        return None
    return schema_name(value) if is_config(value) and has_name(value) else value


def _of_environment(part: Part, environment: Environment) -> Iterator[str]:
    chain = environment.exact
    if part.declared.redraws and not environment.redraws:
        yield (
            f"{part}: expected an environment that draws twice from one state "
            f"(env=chain/NAME), not {environment.name}"
        )
    if part.declared.on_policy and not (
        chain is None or np.array_equal(chain.behaviour, chain.target)
    ):
        yield f"env.id={environment.name}: expected an on-policy chain beside {part}"


def _unranked(config: Config, found: list[Part]) -> Iterator[str]:
    """A priority that needs gradients of single examples where there are none."""
    signal = priorities.scheme(config).needs
    for part in found:
        if signal is not None and not part.declared.per_example:
            key = f"replay.priority={replay_of(config).priority}"
            yield f"{key}: expected one without {signal} beside {part}"
