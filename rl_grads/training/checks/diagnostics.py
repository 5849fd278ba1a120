"""Whether what `diagnostics` asks for can be measured."""

from rl_grads.envs.environment import Environment
from rl_grads.training.checks.refusal import refuse
from rl_grads.training.diagnostics import health
from rl_grads.training.engine import Given, make_agent
from rl_grads.training.schema import Config


def check_memory(config: Config) -> None:
    """What is measured between stretches is measured on the replay memory."""
    if config.replay is not None:
        return
    for name in ("sampling_variance", *health.SETTINGS):
        value = getattr(config.diagnostics, name)
        if health.is_asked(value):
            off = "false" if value is True else "[]" if name == "own" else "null"
            expected = f"{off} where replay is null: there is no memory to draw from"
            refuse(f"diagnostics.{name}", value, expected)


def check_activations(config: Config, given: Given, environment: Environment) -> None:
    """Places inside a network are those that it announces."""
    asked = health.asked(config.diagnostics)
    wanted = [name for name in health.OF_ACTIVATIONS if name in asked]
    if not wanted:
        return
    agent = given.agent or make_agent(config, environment)
    if agent.activations is None:
        value = getattr(config.diagnostics, wanted[0])
        expected = (
            "null: the network announces no places inside it (`sites` and `at_site`), "
            "as network=mlp and network=convolution do"
        )
        refuse(f"diagnostics.{wanted[0]}", value, expected)
