"""How JAX starts: cores as devices, precision, the compilation cache."""

import jax

from rl_grads.training import compilation, devices
from rl_grads.training.schema import Config


def start(config: Config) -> None:
    """Set up JAX for a process that only trains; call it before any computation."""
    limit = devices.device_limit(config)
    devices.use_cores(min(devices.available_cores(), limit or config.seeds))
    jax.config.update("jax_enable_x64", config.precision == "float64")
    compilation.use_cache()
