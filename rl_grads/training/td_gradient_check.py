"""What `agent.td_gradient` needs of the rest of a config."""

from collections.abc import Iterator

from rl_grads.agents.agent import Agent
from rl_grads.config import ConfigError, get, schema_name
from rl_grads.envs.environment import Environment
from rl_grads.training.schema import Config

# Their equations have no place for a target network: the value that bootstraps is the
# one that learns. (QRC has one in its authors' code.)
_WITHOUT_TARGET = ("full", "interpolate", "residual", "gtd2", "tdc", "tdrc")
# They need forward mode, which does not pass a clip inside the graph, and have no
# gradients of single examples to clip.
_FORWARD = ("gtd2", "tdc", "tdrc", "qrc")
_TARGET = ("agent.target.period", "agent.target.polyak")
_CLIP = (
    "gradient.clip.max_abs",
    "gradient.clip.max_norm",
    "gradient.per_example.max_norm",
    "gradient.per_example.quantile",
)


def check(config: Config, agent: Agent | None, environment: Environment) -> None:
    """Refuse what a TD gradient cannot use.

    Args:
        config: The whole config.
        agent: One that was handed over; None: the one that the config names.
        environment: The environment that training will use.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    if agent is not None:
        misfits = _double_sampling(config, environment) if agent.double_sampling else ()
    else:
        misfits = _misfits(config, environment)
    for message in misfits:
        raise ConfigError(message)


def _misfits(config: Config, environment: Environment) -> Iterator[str]:
    name = getattr(config.agent, "td_gradient", "semi")
    if name == "residual":
        yield from _double_sampling(config, environment)
    null = _TARGET if name in _WITHOUT_TARGET else ()
    null += _CLIP if name in _FORWARD else ()
    for key in null:
        if get(config, key) is not None:
            beside = f"expected null beside agent.td_gradient={name}"
            yield f"{key}={get(config, key)}: {beside}"
    if name == "emphatic" and config.replay is not None:
        yield _with_replay(config, "emphatic: its trace follows the order of time")


def _double_sampling(config: Config, environment: Environment) -> Iterator[str]:
    if not environment.redraws:
        yield (
            "agent.td_gradient=residual: expected an environment that draws twice from "
            f"one state (env=chain/NAME), not {environment.name}"
        )
    if config.replay is not None:
        yield _with_replay(config, "residual: the second draw is not stored")


def _with_replay(config: Config, beside: str) -> str:
    name = schema_name(config.replay)
    return f"replay={name}: expected null beside agent.td_gradient={beside}"
