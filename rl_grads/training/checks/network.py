"""Whether the network takes the environment's observations."""

import jax

from rl_grads import prng
from rl_grads.config import ConfigError, schema_name
from rl_grads.envs.environment import Environment
from rl_grads.training.engine import make_agent
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree


def check(config: Config, environment: Environment) -> None:
    """Build the agent's state from one observation, in shapes alone."""
    agent, obs = make_agent(config, environment), environment.observation

    def values(key: jax.Array, obs: jax.Array) -> PyTree:
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
