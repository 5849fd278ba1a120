"""Components by name: the built-in ones and those that users register.

A built-in is a string `"module:attribute"`, imported when it is first used. Users add
theirs with a decorator, from their own main, from `--plugin my_module`, or from an
entry point of the group `rl_grads.plugins`:

    >>> import rl_grads as rg
    >>> @rg.register.env("my_env")
    ... def my_env(config): ...
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from rl_grads.config import SCHEMAS, ConfigError, config, nearest

_COMPONENTS: dict[str, dict[str, Any]] = {
    "agent": {
        "q_learning": "rl_grads.agents.q_learning:from_config",
        "prediction": "rl_grads.agents.prediction:from_config",
    },
    "loss": {
        "td": "rl_grads.td.losses:td",
        "q_learning": "rl_grads.td.losses:q_learning",
        "double_q_learning": "rl_grads.td.losses:double_q_learning",
        "sarsa": "rl_grads.td.losses:sarsa",
        "expected_sarsa": "rl_grads.td.losses:expected_sarsa",
    },
    "network": {
        "mlp": "rl_grads.agents.networks:mlp",
        "linear": "rl_grads.agents.networks:linear",
        "convolution": "rl_grads.agents.networks:convolution",
    },
    "optimizer": {
        "adam": "rl_grads.gradients.optimizers:adam",
        "rmsprop": "rl_grads.gradients.optimizers:rmsprop",
        "sgd": "rl_grads.gradients.optimizers:sgd",
    },
    "clip": {
        "global_norm": "rl_grads.gradients.optimizers:clip_global_norm",
        "element": "rl_grads.gradients.optimizers:clip_element",
    },
    "priority": {
        "uniform": "rl_grads.replay.priorities:uniform",
        "td_error": "rl_grads.replay.priorities:td_error",
    },
    "env": {},
}


def names(kind: str) -> tuple[str, ...]:
    """Every known name of a kind, built-in names first."""
    return tuple(_COMPONENTS[kind])


def get(kind: str, name: str) -> Any:
    """The component of that name.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    known = _COMPONENTS[kind]
    if name not in known:
        raise ConfigError(f"no {kind} {name!r}{nearest(name, known)}")
    if isinstance(known[name], str):
        module, _, attribute = known[name].partition(":")
        known[name] = getattr(importlib.import_module(module), attribute)
    return known[name]


def load_plugins() -> None:
    """Import every installed plugin (entry points of the group `rl_grads.plugins`)."""
    for entry in importlib.metadata.entry_points(group="rl_grads.plugins"):
        entry.load()


def _decorator(kind: str) -> Callable[..., Callable[[Any], Any]]:
    def register(name: str, schema: type | None = None) -> Callable[[Any], Any]:
        def add(component: Any) -> Any:
            if name in _COMPONENTS[kind] and _COMPONENTS[kind][name] is not component:
                raise ConfigError(f"{kind} {name!r} is registered already")
            if kind in ("agent", "network", "optimizer"):
                SCHEMAS[f"{kind}/{name}"] = schema or _empty_schema(name)
            _COMPONENTS[kind][name] = component
            return component

        return add

    register.__doc__ = f"Register a {kind} under a name."
    return register


def _empty_schema(name: str) -> type:
    return config(type(name, (), {"__annotations__": {}, "__doc__": name}))


agent = _decorator("agent")
clip = _decorator("clip")
env = _decorator("env")
loss = _decorator("loss")
network = _decorator("network")
optimizer = _decorator("optimizer")
priority = _decorator("priority")
