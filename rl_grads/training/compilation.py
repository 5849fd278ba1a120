"""How long the backend compiles, and the cache that spares it the second time."""

import os
import pathlib
from typing import NamedTuple

import jax

_COMPILED: list[float] = []
_EVENT = "/jax/core/compile/backend_compile_duration"


def _listen(event: str, duration_secs: float, **_: object) -> None:
    if event == _EVENT:
        _COMPILED.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)


class Clock(NamedTuple):
    """A moment: of the wall clock, and of the seconds spent compiling."""

    wall_s: float
    compile_s: float


def seconds() -> float:
    """Seconds of backend compilation in this process so far."""
    return sum(_COMPILED)


def count() -> int:
    """Backend compilations in this process so far."""
    return len(_COMPILED)


def use_cache() -> None:
    """Keep compiled programs on disk, unless the user has chosen a place already."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        directory = cache_home() / "rl_grads" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def cache_home() -> pathlib.Path:
    """Where programs keep caches: XDG_CACHE_HOME, which counts where it is absolute."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    return home if home.is_absolute() else pathlib.Path.home() / ".cache"
