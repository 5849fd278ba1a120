"""A config as plain data and back: what a run's folder says about how it was made.

A document is one flat mapping from dotted path to plain value. A section that several
classes may fill stands under its own path by the name of its schema, or is null where
it is switched off:

    {"agent": "q_learning", "agent.discount": 0.99, "replay": null, ...}

Reading one imports nothing and resolves nothing: every key must be a field, every
section a registered name, every value inside its domain.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rl_grads.config import (
    SCHEMAS,
    ConfigError,
    Field,
    canonical,
    fields,
    has_name,
    is_config,
    nearest,
    replace,
    schema_group,
    schema_name,
)
from rl_grads.typing import Json, Section, Value

_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


def to_document(config: Section) -> dict[str, Value]:
    """The flat document of a config.

    Args:
        config: A config; every section whose type is open has a class with a name.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> document = to_document(Config())
        >>> document["network"], document["network.hidden"]
        ('mlp', [128, 128])
    """
    return dict(_entries(config, ""))


def _entries(config: Section, prefix: str) -> Iterator[tuple[str, Value]]:
    for field in fields(type(config)):
        path, value = f"{prefix}{field.name}", getattr(config, field.name)
        if not field.is_group:
            yield path, list(value) if isinstance(value, tuple) else value
            continue
        if is_open(field):
            yield path, None if value is None else _name(value)
        if value is not None:
            yield from _entries(value, f"{path}.")


def _name(section: Value) -> str:
    """Its name in the group; a class without one goes by its own, and reads as none."""
    return schema_name(section) if has_name(section) else type(section).__name__


def is_open(field: Field) -> bool:
    """Whether a section may hold other classes than one, or nothing."""
    single = isinstance(field.type, type) and field.type is not Any
    return field.is_group and not single


def from_document(document: Mapping[str, Json], default: Value, where: str) -> Value:
    """The checked config of a document.

    Args:
        document: See `to_document`; keys that it lacks have their defaults.
        default: A config of the class that is read.
        where: What a message begins with, such as the file's path.

    Raises:
        ConfigError: A key, a name or a value is not one of our own.
    """
    for key in document:
        if not isinstance(key, str):
            raise ConfigError(f"{where}: {key!r}: expected the name of a config key")
    known = {f.name: f for f in fields(type(default))}
    config = _filled(document, default, "", where)
    unknown = sorted(set(document) - _paths(config, ""))
    if unknown:
        key = unknown[0]
        hint = nearest(key, [*_paths(config, ""), *known])
        raise ConfigError(f"{where}: {key}: expected a key of a config{hint}")
    try:
        return canonical(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _paths(config: Section, prefix: str) -> set[str]:
    """Every key that a document of this config may have."""
    found: set[str] = set()
    for field in fields(type(config)):
        path, value = f"{prefix}{field.name}", getattr(config, field.name)
        found |= {path} if is_open(field) or not field.is_group else set()
        if is_config(value):
            found |= _paths(value, f"{path}.")
    return found


def _filled(
    document: Mapping[str, Json], default: Value, prefix: str, where: str
) -> Value:
    """A config with the document's values in the place of the defaults."""
    changes: dict[str, Any] = {}
    for field in fields(type(default)):
        path, value = f"{prefix}{field.name}", getattr(default, field.name)
        if not field.is_group:
            if path in document:
                changes[field.name] = _value(document[path], field)
            continue
        section = _section(document, field, path, value, where)
        if section is not None:
            section = _filled(document, section, f"{path}.", where)
        changes[field.name] = section
    return replace(default, changes)


def _section(
    document: Mapping[str, Json], field: Field, path: str, default: Value, where: str
) -> Value:
    """A fresh section of the class that the document names; None if it is off."""
    if not is_open(field) or path not in document:
        return default
    name, group = document[path], schema_group(field)
    if name is None:
        return None
    cls = SCHEMAS.get(f"{group}/{name}") if isinstance(name, str) else None
    if cls is None:
        known = [n.partition("/")[2] for n in SCHEMAS if n.startswith(f"{group}/")]
        expected = f"expected a registered {group}: {', '.join(known)}"
        raise ConfigError(
            f"{where}: {path}={name}: {expected}{nearest(str(name), known)}"
        )
    return cls()


def _value(value: Value, field: Field) -> Value:
    """A plain value as its field has it: JSON writes an infinity as text."""
    if isinstance(value, list):
        return tuple(_value(v, field) for v in value)
    if isinstance(value, Mapping):
        return {str(k): _value(v, field) for k, v in value.items()}
    if field.is_leaf and isinstance(value, str):
        return _INFINITIES.get(value, value)
    return value
