"""Reading and changing configs by dotted paths, and by the progress of training."""

import dataclasses
from collections.abc import Iterator, Mapping

from rl_grads.config.classes import is_config
from rl_grads.config.declaring import Annealing, Field, fields
from rl_grads.config.words import ConfigError, nearest
from rl_grads.typing import Value


def walk(value: Value, prefix: str = "") -> Iterator[tuple[str, Field, Value]]:
    """Every field below a config as `(dotted path, field, value)`, sections first."""
    for field in fields(type(value)):
        path, inner = f"{prefix}{field.name}", getattr(value, field.name)
        yield path, field, inner
        if is_config(inner):
            yield from walk(inner, f"{path}.")


def leaf_paths(value: Value) -> tuple[str, ...]:
    """Dotted paths of all numbers that are inputs of the program.

    They are the paths that JAX gives them: entries of a tuple go by their index,
    `network.initial_weights.0`, and those of a mapping by name, `env.params.gravity`.
    """
    return tuple(path for path, _ in leaves(value))


def leaves(value: Value) -> Iterator[tuple[str, float]]:
    """All numbers that are inputs of the program, with their dotted paths."""
    for path, field, inner in walk(value):
        if field.is_leaf:
            yield from _numbers(path, inner)


def _numbers(path: str, value: Value) -> list[tuple[str, float]]:
    """A number with its path, those in a collection, none for None."""
    if isinstance(value, Mapping | tuple | list):
        return [(f"{path}.{key}", _child(value, key)) for key in _names(value)]
    return [] if value is None else [(path, value)]


def get(value: Value, path: str) -> Value:
    """The value at a dotted path.

    Raises:
        ConfigError: There is no such path; the message names the nearest key.
    """
    for part in path.split("."):
        known = _names(value)
        if part not in known:
            raise ConfigError(f"{path}: no key {part!r}{nearest(part, known)}")
        value = _child(value, part)
    return value


def _names(value: Value) -> list[str]:
    """The parts of a path that lead further from a value."""
    if is_config(value):
        return [f.name for f in fields(type(value))]
    if isinstance(value, Mapping):
        return list(value)
    return [str(i) for i in range(len(value))] if isinstance(value, tuple) else []


def _child(value: Value, part: str) -> Value:
    if isinstance(value, tuple):
        return value[int(part)]
    return value[part] if isinstance(value, Mapping) else getattr(value, part)


def replace(value: Value, changes: Mapping[str, Value]) -> Value:
    """A copy of a config with the values at dotted paths exchanged.

    Args:
        value: A config.
        changes: Dotted path to new value, `{"agent.discount": 0.9}`. A mapping also
            takes new keys, `{"env.params.gravity": 5.0}`.

    Raises:
        ConfigError: A path does not exist.
    """
    for path, new in changes.items():
        parent, _, _ = path.rpartition(".")
        if not isinstance(get(value, parent) if parent else value, Mapping):
            get(value, path)
        value = _replace_one(value, path.split("."), new)
    return value


def _replace_one(value: Value, parts: list[str], new: Value) -> Value:
    head, *rest = parts
    inner = _replace_one(_child(value, head), rest, new) if rest else new
    if isinstance(value, tuple):
        at = int(head)
        return (*value[:at], inner, *value[at + 1 :])
    if isinstance(value, Mapping):
        return {**value, head: inner}
    return dataclasses.replace(value, **{head: inner})


def anneal(value: Value, progress: Value) -> Value:
    """The config at this moment of training: every schedule evaluated.

    A number with a declared end (`number(..., anneals="epsilon")`) moves there
    linearly. The schedule lives in the config, so no component keeps a clock.

    Args:
        value: A config; its leaves may be tracers.
        progress: Part of training that has passed, in [0, 1].
    """
    changes = {}
    for field in fields(type(value)):
        inner = getattr(value, field.name)
        if is_config(inner):
            changes[field.name] = anneal(inner, progress)
        elif field.anneals is not None and inner is not None:
            changes[field.anneals.sibling] = _annealed(
                value, field.anneals, inner, progress
            )
    return dataclasses.replace(value, **changes) if changes else value


def _annealed(value: Value, schedule: Annealing, end: Value, progress: Value) -> Value:
    import jax.numpy as jnp

    start = getattr(value, schedule.sibling)
    fraction = getattr(value, schedule.over) if schedule.over else 1.0
    passed = jnp.clip(progress / fraction, 0.0, 1.0)
    return start + passed * ((start * end if schedule.relative else end) - start)
