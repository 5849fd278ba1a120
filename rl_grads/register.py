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
from typing import Any, NamedTuple, TypeVar

from rl_grads.config import (
    SCHEMAS,
    ConfigError,
    config,
    fields,
    group,
    is_config_class,
    nearest,
)
from rl_grads.typing import PyTree

_C = TypeVar("_C")

# Kinds of outputs of a network, which losses read.
STATE_VALUE, ACTION_VALUES = "state_value", "action_values"
_OUTPUTS = {STATE_VALUE: "a state value", ACTION_VALUES: "action values"}


class Need(NamedTuple):
    """What must stand under another key of a config.

    Attributes:
        key: Dotted path; a key that the config does not have counts as null.
        value: None for null, a value, or the name of what a section holds.
        why: In words, for the message; may be empty.
    """

    key: str
    value: object = None
    why: str = ""


class Declaration(NamedTuple):
    """What a component needs of the rest of a config; at first, nothing.

    The checks at the door of training compare declarations and know no names, so what
    is said here of a component of your own is checked like a built-in one.

    Attributes:
        needs: What it wants under other keys.
        outputs: `STATE_VALUE` or `ACTION_VALUES`: what the network of an agent gives,
            or what a loss or a TD gradient reads of it; None fits all.
        redraws: It needs an environment that draws twice from one state.
        on_policy: It needs an environment that behaves as its target policy does.
        per_example: There are gradients of single examples to rank or to clip.
    """

    needs: tuple[Need, ...] = ()
    outputs: str | None = None
    redraws: bool = False
    on_policy: bool = False
    per_example: bool = True


def declares(declaration: Declaration) -> Callable[[_C], _C]:
    """Decorator: a component needs this of the rest of a config.

    Example:
        >>> @declares(Declaration(outputs=ACTION_VALUES))
        ... def my_loss(network): ...
        >>> declared(my_loss).outputs
        'action_values'
    """

    def mark(component: _C) -> _C:
        setattr(component, "declares", declaration)  # noqa: B010
        return component

    return mark


def declared(component: object) -> Declaration:
    """What a component declares; nothing if it is silent."""
    return getattr(component, "declares", Declaration())


_COMPONENTS: dict[str, dict[str, Any]] = {
    "agent": {
        "q_learning": "rl_grads.agents.pages.q_learning:from_config",
        "prediction": "rl_grads.agents.pages.prediction:from_config",
        "td_lambda": "rl_grads.agents.pages.td_lambda:from_config",
        "n_step_td": "rl_grads.agents.pages.n_step_td:from_config",
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
        "block_rms": "rl_grads.gradients.optimizers:clip_block_rms",
        "per_layer": "rl_grads.gradients.optimizers:clip_per_layer",
        "agc": "rl_grads.gradients.optimizers:clip_agc",
        "autoclip": "rl_grads.gradients.optimizers:clip_auto",
    },
    "priority": {
        "uniform": "rl_grads.replay.priorities:uniform",
        "td_error": "rl_grads.replay.priorities:td_error",
        "rank": "rl_grads.replay.priorities:rank",
        "loss_adjusted": "rl_grads.replay.priorities:loss_adjusted",
        "gradient_norm": "rl_grads.replay.priorities:gradient_norm",
        "gradient_norm_last_layer": (
            "rl_grads.replay.priorities:gradient_norm_last_layer"
        ),
        "large_batch": "rl_grads.replay.priorities:large_batch",
    },
    "td_gradient": {
        name: f"rl_grads.agents.td_gradients:{name.upper()}"
        for name in (
            "semi",
            "full",
            "residual",
            "interpolate",
            "gtd2",
            "tdc",
            "tdrc",
            "qrc",
            "emphatic",
        )
    },
    "trace": {
        "accumulating": "rl_grads.td.traces:accumulating",
        "replacing": "rl_grads.td.traces:replacing",
        "true_online": "rl_grads.td.traces:true_online",
    },
    "sampler": {},
    "estimator": {},
    "diagnostic": {},
    "wrapper": {},
    "tracker": {},
    "env": {},
}


KINDS = tuple(_COMPONENTS)
# What every component of a kind needs, beside what it declares itself.
NEEDS_OF_KIND = {
    "sampler": (Need("replay.priority", "uniform", "it draws in their place"),),
    "estimator": (
        Need("gradient.per_example.max_norm", None, "it takes the place of that clip"),
        Need("gradient.per_example.quantile", None, "it takes the place of that clip"),
    ),
}
# Kinds whose components are chosen by the class of a config section.
_WITH_SCHEMA = ("agent", "network", "optimizer")


def names(kind: str) -> tuple[str, ...]:
    """Every known name of a kind, built-in names first.

    Example:
        >>> names("clip")[:2]
        ('global_norm', 'element')
    """
    return tuple(_COMPONENTS[kind])


def get(kind: str, name: str) -> PyTree:
    """The component of that name.

    Raises:
        ConfigError: There is none; the message names the nearest.

    Example:
        >>> get("loss", "q_lerning")
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: no loss 'q_lerning'; did you mean 'q_learning'?
    """
    known = _COMPONENTS[kind]
    if name not in known:
        raise ConfigError(f"no {kind} {name!r}{nearest(name, known)}")
    if isinstance(known[name], str):
        module, _, attribute = known[name].partition(":")
        known[name] = getattr(importlib.import_module(module), attribute)
    return known[name]


def check_outputs(
    key: str, kind: str, name: str, outputs: str | None, whose: str = ""
) -> None:
    """Refuse a component that reads other outputs than a network gives.

    Args:
        key: Under which the component is chosen, for the message.
        kind: Its kind.
        name: Its name.
        outputs: What the network gives; None fits all.
        whose: Whose network, for the message.

    Raises:
        ConfigError: Names the components that fit, and the nearest of them.

    Example:
        >>> check_outputs("agent.loss", "loss", "sarsa", STATE_VALUE)
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: agent.loss='sarsa': expected a loss of a state \
value: td
    """

    def fits(name: str) -> bool:
        reads = declared(get(kind, name)).outputs
        return outputs is None or reads in (None, outputs)

    if not fits(name):
        fitting = [known for known in names(kind) if fits(known)]
        words = _OUTPUTS.get(outputs or "", outputs)
        words = f"{whose} ({words})" if whose else words
        raise ConfigError(
            f"{key}={name!r}: expected a {kind} of {words}: {', '.join(fitting)}"
            f"{nearest(name, fitting)}"
        )


class Registered(NamedTuple):
    """A domain of configs: the name of a registered component of one kind.

    Example:
        >>> "huber" in Registered("loss")
        False
    """

    kind: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names known now, built-in and registered."""
        return names(self.kind)

    def __contains__(self, value: object) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"a registered {self.kind}: " + ", ".join(self.names)


def load_plugins() -> None:
    """Import every installed plugin (entry points of the group `rl_grads.plugins`).

    Raises:
        ConfigError: One of them cannot be imported.
    """
    for entry in importlib.metadata.entry_points(group="rl_grads.plugins"):
        try:
            entry.load()
        except Exception as error:
            text = " ".join(str(error).split())
            raise ConfigError(
                f"installed plugin {entry.name} ({entry.value}): importing it raised "
                f"{type(error).__name__}: {text}"
            ) from error


# Schemas of the numbers of components that have no section, with their kinds.
_NUMBERS: dict[str, tuple[str, type]] = {}


def numbers() -> PyTree:
    """A fresh section `own` of a config: the numbers of registered components, by name.

    Example:
        >>> numbers()
        Own()
    """
    return SCHEMAS["own/numbers"]()


def kind_of_numbers(name: str) -> str | None:
    """The kind of the component whose numbers stand at `own.name`; None for no one's.

    Example:
        >>> kind_of_numbers("nobody") is None
        True
    """
    return _NUMBERS[name][0] if name in _NUMBERS else None


def _add_numbers(kind: str, name: str, schema: type) -> None:
    """Give a component a section below `own`."""
    if not is_config_class(schema):
        raise ConfigError(f"schema of {kind} {name}: expected a class made by `config`")
    if name in _NUMBERS and _NUMBERS[name] != (kind, schema):
        raise ConfigError(
            f"schema of {kind} {name}: own.{name} has the numbers of a "
            f"{_NUMBERS[name][0]}; choose another name"
        )
    _NUMBERS[name] = (kind, schema)
    _declare_own()


_OWN = "Numbers of registered components without a section: `own.NAME.NUMBER`."


def _declare_own() -> None:
    """Make the class of the section `own` anew, with all that is registered."""
    sections = {
        name: group(schema, f"numbers of the {kind} {name}")
        for name, (kind, schema) in _NUMBERS.items()
    }
    hints = {name: schema for name, (_, schema) in _NUMBERS.items()}
    body = {"__annotations__": hints, "__doc__": _OWN, **sections}
    config("own/numbers")(type("Own", (), body))
    fields.cache_clear()


_declare_own()


def _decorator(kind: str) -> Callable[..., Callable[[PyTree], PyTree]]:
    def register(name: str, schema: type | None = None) -> Callable[[PyTree], PyTree]:
        def add(component: PyTree) -> PyTree:
            if name in _COMPONENTS[kind] and _COMPONENTS[kind][name] is not component:
                raise ConfigError(f"{kind} {name!r} is registered already")
            if kind in _WITH_SCHEMA:
                _add_schema(f"{kind}/{name}", schema or _empty_schema(name))
            elif schema is not None:
                _add_numbers(kind, name, schema)
            _COMPONENTS[kind][name] = component
            return component

        return add

    register.__doc__ = f"""Register a {kind} under a name.

    Args:
        name: Its name in configs.
        schema: The `config` class of its numbers. They are its section (agent,
            network, optimizer), or else stand at `own.NAME` of the config.

    Returns:
        The decorator, which returns what it decorates.

    Raises:
        ConfigError: The name, or the schema, belongs to another component.
    """
    return register


def _add_schema(name: str, schema: type) -> None:
    """Declare a schema; the class must lead back to this one name."""
    if not is_config_class(schema):
        raise ConfigError(f"schema of {name}: expected a class made by `config`")
    owners = [n for n, known in SCHEMAS.items() if known is schema and n != name]
    if owners:
        raise ConfigError(
            f"schema of {name}: {schema.__name__} belongs to {owners[0]}; derive a "
            "class of its own from it"
        )
    SCHEMAS[name] = schema


def _empty_schema(name: str) -> type:
    return config(type(name, (), {"__annotations__": {}, "__doc__": name}))


agent = _decorator("agent")
clip = _decorator("clip")
env = _decorator("env")
loss = _decorator("loss")
network = _decorator("network")
optimizer = _decorator("optimizer")
priority = _decorator("priority")
diagnostic = _decorator("diagnostic")
estimator = _decorator("estimator")
sampler = _decorator("sampler")
td_gradient = _decorator("td_gradient")
tracker = _decorator("tracker")
wrapper = _decorator("wrapper")
trace = _decorator("trace")
