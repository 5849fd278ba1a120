"""The door of training: whether the parts of a config fit each other."""

from typing import Any, NoReturn

import jax

from rl_grads import prng
from rl_grads.config import LARGEST_COUNT, ConfigError, nearest, schema_name
from rl_grads.envs.environment import Environment
from rl_grads.replay import priorities
from rl_grads.training import (
    health,
    memory_check,
    meta_check,
    td_gradient_check,
    trace_check,
)
from rl_grads.training.engine import Given, make_agent
from rl_grads.training.population import check_precision, check_seeds
from rl_grads.training.schema import Config

# Built-in losses and the agents whose networks have the outputs that they read.
_LOSSES = {
    "prediction": ("td",),
    "n_step_td": ("td",),
    "q_learning": ("q_learning", "double_q_learning", "sarsa", "expected_sarsa"),
}


def check(config: Config, given: Given) -> None:
    """Refuse a config whose parts do not fit each other or the environment.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    check_seeds(config)
    check_precision(config)
    _check_lengths(config)
    _check_places(config)
    _check_target(config)
    _check_loss(config)
    _check_priority(config)
    _check_measured(config)
    environment = _environment(config, given)
    memory_check.check(config, environment)
    trace_check.check(config, environment)
    td_gradient_check.check(config, given.agent, environment)
    if given.agent is None:
        _check_network(config, environment)
    _check_activations(config, given, environment)
    meta_check.check(config, Given(given.agent, environment))


def _refuse(key: str, value: Any, expected: str) -> NoReturn:
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
    most = LARGEST_COUNT // (training.total_steps // per)
    if training.updates_per_iteration > most:
        expected = f"at most {most} beside so many steps: updates are counted in int32"
        updates = training.updates_per_iteration
        _refuse("training.updates_per_iteration", updates, expected)


def _check_places(config: Config) -> None:
    """Refuse a memory or a draw of which not every place has a number in int32."""
    training, replay = config.training, config.replay
    if replay is None:
        return
    draws = LARGEST_COUNT // training.batch_size
    if priorities.scheme(config).resamples and replay.large_batch > draws:
        expected = f"at most {draws} beside training.batch_size={training.batch_size}"
        _refuse("replay.large_batch", replay.large_batch, expected)
    per = training.num_envs * training.num_steps
    room = LARGEST_COUNT - 2 * per - training.num_envs  # Of whole blocks, one unused.
    if replay.capacity > room:
        expected = f"at most {room} beside {per} new transitions in an iteration"
        _refuse("replay.capacity", replay.capacity, expected)


def _check_target(config: Config) -> None:
    target = getattr(config.agent, "target", None)
    if target is not None and target.period is not None and target.polyak is not None:
        expected = "null beside agent.target.polyak: copy or average, not both"
        _refuse("agent.target.period", target.period, expected)


def _check_loss(config: Config) -> None:
    """Refuse a built-in loss of another agent; a user's own loss fits any."""
    loss, agent = getattr(config.agent, "loss", None), schema_name(config.agent)
    fitting = _LOSSES.get(agent)
    if fitting is None or not any(loss in names for names in _LOSSES.values()):
        return
    if loss not in fitting:
        expected = f"a loss of agent={agent}: {', '.join(fitting)}"
        _refuse("agent.loss", loss, f"{expected}{nearest(str(loss), fitting)}")


def _check_priority(config: Config) -> None:
    """Update directions have a gradient of their own, none per example."""
    needs = priorities.scheme(config).needs
    name = getattr(config.agent, "td_gradient", "semi")
    if needs is not None and name in ("gtd2", "tdc", "tdrc", "qrc"):
        expected = f"one without {needs} beside agent.td_gradient={name}"
        _refuse("replay.priority", config.replay.priority, expected)


def _check_measured(config: Config) -> None:
    """What is measured between stretches is measured on the replay memory."""
    if config.replay is not None:
        return
    for name in ("sampling_variance", *health.SETTINGS):
        value = getattr(config.diagnostics, name)
        if value is not None and value is not False:
            off = "false" if value is True else "null"
            expected = f"{off} where replay is null: there is no memory to draw from"
            _refuse(f"diagnostics.{name}", value, expected)


def _check_activations(config: Config, given: Given, environment: Environment) -> None:
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
        _refuse(f"diagnostics.{wanted[0]}", value, expected)


def _environment(config: Config, given: Given) -> Environment:
    """The environment that training will use."""
    if given.environment is not None:
        return given.environment
    from rl_grads.envs import make

    make.check(config.env)
    return make.make(config.env)


def _check_network(config: Config, environment: Environment) -> None:
    """Build the agent's state from one observation, in shapes alone."""
    agent, obs = make_agent(config, environment), environment.observation

    def values(key: jax.Array, obs: jax.Array) -> Any:
        state = agent.init(key, obs, config)
        return state.params, agent.value(state.params, obs)

    name = schema_name(config.network)
    expected = f"a network for observations of shape {obs.shape}"
    try:
        params, _ = jax.eval_shape(values, prng.key(0), obs)
    except ConfigError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"network={name}: expected {expected} ({reason})") from error
    if any(0 in leaf.shape for leaf in jax.tree.leaves(params)):
        raise ConfigError(f"network={name}: expected {expected} (nothing is left)")
