"""How JAX starts: cores as devices, precision, the compilation cache."""

import os

import jax

from rl_grads.config import ConfigError, shorten
from rl_grads.training import compilation, devices
from rl_grads.training.schema import Config


def start(config: Config, members: int | None = None) -> None:
    """Set up JAX for a process that only trains; call it before any computation.

    Args:
        config: The config.
        members: Most members that train together; None: as many as it has seeds.

    Raises:
        ConfigError: There is no device of the kind that `JAX_PLATFORMS` asks for.
    """
    limit = devices.device_limit(config)
    devices.use_cores(min(devices.available_cores(), limit or members or config.seeds))
    jax.config.update("jax_enable_x64", config.precision == "float64")
    compilation.use_cache()
    asked = os.environ.get("JAX_PLATFORMS")
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        if not asked:
            raise
        reason = " ".join(str(error).split()) or "JAX has no such backend"
        raise ConfigError(
            f"JAX_PLATFORMS={asked}: expected a kind of device that is here, such as "
            f"cpu ({shorten(reason, 200)})"
        ) from None
