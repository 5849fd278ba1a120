"""The door: the one form of a config, and whether its values are in their domains."""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any

from rl_grads.config.changing import walk
from rl_grads.config.classes import SCHEMAS, Fixed, full_name, is_config, schema_group
from rl_grads.config.declaring import Field, fields, plain_types
from rl_grads.config.domains import Interval
from rl_grads.config.words import ConfigError, nearest, shown
from rl_grads.typing import Value


def canonical(value: Value) -> Value:
    """The one form of a config, and the door where it is checked.

    Lists become tuples, ints in float fields become floats and NumPy's numbers
    Python's, so that configs built in Python and by Hydra are the same tree.

    Raises:
        ConfigError: A value has the wrong type or lies outside its domain.

    Example:
        >>> from rl_grads.agents.schema import Linear
        >>> canonical(Linear(initial_value=1, initial_weights=[0, 2]))
        Linear(initial_value=1.0, initial_weights=(0.0, 2.0))
    """
    config = _canonical_config(value)
    check(config)
    return config


def _canonical_config(value: Value) -> Value:
    changes = {
        field.name: _canonical_value(getattr(value, field.name), field)
        for field in fields(type(value))
    }
    return dataclasses.replace(value, **changes)


def _canonical_value(value: Value, field: Field) -> Value:
    if is_config(value):
        return _canonical_config(value)
    if isinstance(value, list | tuple):
        return tuple(_canonical_value(v, field) for v in value)
    if isinstance(value, Mapping):
        items = {k: _canonical_value(value[k], field) for k in sorted(value, key=str)}
        return items if field.is_leaf else Fixed(items)
    if isinstance(value, bool):
        return value
    if field.is_leaf and isinstance(value, numbers.Real):
        return _float(value)
    return int(value) if isinstance(value, numbers.Integral) else value


def _float(value: Value) -> float:
    """A number as a float; an integer beyond its range is infinite, and refused."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check(value: Value, prefix: str = "") -> None:
    """Refuse a config with a value of the wrong type or outside its domain.

    Args:
        value: A config.
        prefix: Path of the config itself, with a dot at its end.

    Raises:
        ConfigError: Names the path, the value and what was expected.
    """
    for path, field, inner in walk(value, prefix):
        if field.is_group:
            _check_group(path, field, inner)
        else:
            _check_field(path, field, inner)


def _check_group(path: str, field: Field, value: Value) -> None:
    """A section holds a config: one of its own group where the type leaves it open."""
    found = full_name(type(value)) or ""
    if field.type is not Any:
        fitting = _fits(value, field.type)
    else:
        group = schema_group(field)
        fitting = is_config(value) and found.partition("/")[0] in ("", group)
    if not fitting:
        raise ConfigError(f"{path}={found or shown(value)}: expected {describe(field)}")


def _check_field(path: str, field: Field, value: Value) -> None:
    if not _fits(value, field.type):
        raise ConfigError(f"{path}={shown(value)}: expected {describe(field)}")
    for inner, item in _items(path, value):
        if item is not None and item not in field.domain:
            names = getattr(field.domain, "names", ())
            hint = nearest(item, names) if isinstance(item, str) else ""
            given = f"{inner}={shown(item)}"
            raise ConfigError(f"{given}: expected {describe(field)}{hint}")


def describe(field: Field) -> str:
    """What a field accepts, in words."""
    parts = plain_types(field.type)
    text = str(field.domain) or type_name(field.type)
    if field.is_group:
        text = _describe_group(field)
    elif int in parts and isinstance(field.domain, Interval):
        text = text.replace("a number", "an integer")
    elif field.is_leaf and not isinstance(field.domain, Interval):
        text = "a number"
    if _holds_many(field.type):
        text = f"a list, each {text}" if str(field.domain) else "a list"
    return text + (" or null" if type(None) in parts else "")


def _describe_group(field: Field) -> str:
    """The configs that a section accepts, by name where they have one."""
    group = schema_group(field)
    known = [name for name in SCHEMAS if name.startswith(f"{group}/")]
    if field.type is Any and known:
        return "one of " + ", ".join(known)
    return f"a config {type(field.default).__name__}"


def _holds_many(hint: Value) -> bool:
    """Whether an annotation is of tuples, possibly among other types."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return any(_holds_many(a) for a in typing.get_args(hint))
    return typing.get_origin(hint) is tuple


def type_name(hint: Value) -> str:
    """The type of a field as the documentation writes it, without its null."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        named = [type_name(a) for a in typing.get_args(hint) if a is not type(None)]
        return " | ".join(named)
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _items(path: str, value: Value) -> list[tuple[str, Value]]:
    """What a value holds, each with the path that a message gives it."""
    if isinstance(value, Mapping):
        return [(f"{path}.{key}", item) for key, item in value.items()]
    items = value if isinstance(value, list | tuple) else (value,)
    return [(path, item) for item in items]


def _fits(value: Value, hint: Value) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, a) for a in arguments)
    if origin is not None:
        return isinstance(value, origin) and all(
            _fits(v, arguments[-1] if origin is dict else arguments[0])
            for _, v in _items("", value)
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return type(value) is int
    return value is None if hint is type(None) else isinstance(value, hint)
