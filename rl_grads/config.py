"""Configs: dataclasses that are JAX pytrees.

A `float` field is a leaf, an input of the compiled program: set it, sweep it or
differentiate it. Every other field is static and part of the tree's structure.
`None` switches a feature off by changing that structure.

This module imports no JAX, so that the command line answers at once; `as_pytree`
registers the collected classes when training begins.

Example:
    >>> from rl_grads.config import config, number, positive, setting, at_least
    >>> @config
    ... class Ridge:
    ...     scale: float = number(1.0, "strength of the penalty", positive)
    ...     rank: int = setting(2, "rank of the approximation", at_least(1))
    >>> check(Ridge(scale=-1.0))
    Traceback (most recent call last):
    ...
    rl_grads.config.ConfigError: scale=-1.0: expected a number in (0, inf)
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class ConfigError(ValueError):
    """Bad input. The message names the key, the value and what was expected."""


# ----------------------------------------------------------------------- domains


class Interval(NamedTuple):
    """Numbers between `low` and `high`; each edge is open or closed.

    Validation, sweeps (which scale to sample on) and meta-learning (which bijector)
    all read this one declaration.
    """

    low: float = -math.inf
    high: float = math.inf
    low_closed: bool = False
    high_closed: bool = False

    def __contains__(self, value: object) -> bool:
        """Whether `value` lies inside; never for nan."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        above = value >= self.low if self.low_closed else value > self.low
        below = value <= self.high if self.high_closed else value < self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(["[self.low_closed], ")]"[self.high_closed]
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"


class OneOf(NamedTuple):
    """A value among a few names."""

    names: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return "one of " + ", ".join(self.names)


class Registered(NamedTuple):
    """The name of a registered component of one kind (see `rl_grads.register`)."""

    kind: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names known now, built-in and registered."""
        from rl_grads import register

        return register.names(self.kind)

    def __contains__(self, value: object) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"a registered {self.kind}: " + ", ".join(self.names)


class Nothing(NamedTuple):
    """Accepts whatever has the declared type."""

    def __contains__(self, value: object) -> bool:
        return True

    def __str__(self) -> str:
        return ""


Domain = Interval | OneOf | Registered | Nothing

real = Interval()
positive = Interval(low=0.0)
non_negative = Interval(low=0.0, low_closed=True)
unit = Interval(0.0, 1.0, low_closed=True, high_closed=True)
anything = Nothing()


def at_least(low: float) -> Interval:
    """Numbers from `low` (included) upwards."""
    return Interval(low=low, low_closed=True)


def one_of(*names: str) -> OneOf:
    """One of a few names."""
    return OneOf(names)


# ------------------------------------------------------------------------ fields


def setting(default: Any, meaning: str, domain: Domain = anything) -> Any:
    """A static field: part of the program's structure.

    Args:
        default: Its value when nothing is said; a list or dict is copied.
        meaning: One line for the generated page of keys, with the unit.
        domain: The values it accepts.
    """
    metadata = {"meaning": meaning, "domain": domain}
    if isinstance(default, list | dict):
        return dataclasses.field(
            default_factory=lambda: type(default)(default), metadata=metadata
        )
    return dataclasses.field(default=default, metadata=metadata)


def number(
    default: Any,
    meaning: str,
    domain: Domain = real,
    *,
    anneals: str | None = None,
    relative: bool = False,
    over: str | None = None,
) -> Any:
    """A float field: a leaf of the tree, an input of the compiled program.

    `None` as a default (with the type `float | None`) means that the feature is off.

    Args:
        default: Its value when nothing is said.
        meaning: One line for the generated page of keys, with the unit.
        domain: The values it accepts.
        anneals: This number is the value of that sibling field at the end of training;
            see `anneal`.
        relative: It is a factor on the sibling rather than a value.
        over: Sibling with the fraction of training that the annealing takes; all of
            it if None.
    """
    declared = setting(default, meaning, domain)
    schedule = Annealing(anneals, relative, over) if anneals else None
    declared.metadata = {**declared.metadata, "anneals": schedule}
    return declared


class Annealing(NamedTuple):
    """A field says where a sibling ends; see `number`."""

    sibling: str
    relative: bool
    over: str | None


def group(default: Callable[[], Any], meaning: str) -> Any:
    """A nested config. `default` is the config class that stands there."""
    metadata = {"meaning": meaning, "domain": anything, "group": True}
    return dataclasses.field(default_factory=default, metadata=metadata)


# --------------------------------------------------------------------- the decorator

_CLASSES: list[type] = []
SCHEMAS: dict[str, type] = {}


def config(target: type | str, /) -> Any:
    """Make a class a config: a slotted dataclass that is also a pytree.

    Used bare for a plain section, or with the Hydra group and name under which the
    command line finds it: `@config("optimizer/adam")`.

    Args:
        target: The class, or `"group/name"`.

    Returns:
        The dataclass, or the decorator that makes it.
    """
    if isinstance(target, str):
        return lambda cls: _collect(cls, target)
    return _collect(target, None)


def _collect(cls: type, name: str | None) -> type:
    made = dataclasses.dataclass(slots=True, eq=True)(cls)
    made.__hash__ = None  # Leaves may be arrays.
    _CLASSES.append(made)
    if name is not None:
        SCHEMAS[name] = made
    return made


def is_config(value: object) -> bool:
    """Whether `value` is an instance of a config class."""
    return type(value) in _CLASSES


def schema_name(value: object) -> str:
    """The last part of `"group/name"` under which a config's class was declared."""
    for name, cls in SCHEMAS.items():
        if cls is type(value):
            return name.partition("/")[2]
    raise ConfigError(f"{type(value).__name__} is no named config")


class Field(NamedTuple):
    """A field as the rest of the project sees it."""

    name: str
    type: Any
    default: Any
    meaning: str
    domain: Domain
    is_leaf: bool
    is_group: bool
    anneals: Annealing | None


def fields(cls: type) -> tuple[Field, ...]:
    """The fields of a config class, with their declarations."""
    hints = typing.get_type_hints(cls)
    return tuple(_field(f, hints[f.name]) for f in dataclasses.fields(cls))


def _field(field: dataclasses.Field, hint: Any) -> Field:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Field(
        name=field.name,
        type=hint,
        default=default,
        meaning=field.metadata.get("meaning", ""),
        domain=field.metadata.get("domain", anything),
        is_leaf=float in _parts(hint),
        is_group=bool(field.metadata.get("group")),
        anneals=field.metadata.get("anneals"),
    )


def _parts(hint: Any) -> set[Any]:
    """Every plain type inside an annotation: `tuple[float, ...] | None` has float."""
    arguments = typing.get_args(hint)
    if not arguments:
        return {hint}
    return set().union(*(_parts(a) for a in arguments))


# ------------------------------------------------------------------------- pytree


def as_pytree() -> None:
    """Register every collected class with JAX; calls after the first add new ones."""
    import jax

    for cls in _CLASSES:
        if cls not in _REGISTERED:
            _REGISTERED.add(cls)
            _register(jax, cls)


_REGISTERED: set[type] = set()


def _register(jax: Any, cls: type) -> None:
    declared = fields(cls)
    inner = tuple(f.name for f in declared if f.is_leaf or f.is_group)
    outer = tuple(f.name for f in declared if not (f.is_leaf or f.is_group))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in inner)

    def flatten(value: Any) -> tuple[tuple, tuple]:
        children = tuple(getattr(value, name) for name in inner)
        return children, tuple(_hashable(getattr(value, name)) for name in outer)

    def flatten_with_keys(value: Any) -> tuple[tuple, tuple]:
        children, static = flatten(value)
        return tuple(zip(keys, children, strict=True)), static

    def unflatten(static: tuple, children: Iterable) -> Any:
        value = object.__new__(cls)
        for name, child in zip(inner, children, strict=True):
            object.__setattr__(value, name, child)
        for name, child in zip(outer, static, strict=True):
            object.__setattr__(value, name, child)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# ------------------------------------------------------------ reading and changing


def walk(value: Any, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """Every field below a config as `(dotted path, field, value)`, sections first."""
    for field in fields(type(value)):
        path, inner = f"{prefix}{field.name}", getattr(value, field.name)
        yield path, field, inner
        if is_config(inner):
            yield from walk(inner, f"{path}.")


def leaf_paths(value: Any) -> tuple[str, ...]:
    """Dotted paths of all numbers that are inputs of the program."""
    return tuple(p for p, f, v in walk(value) if f.is_leaf and v is not None)


def get(value: Any, path: str) -> Any:
    """The value at a dotted path; an unknown path names the nearest one."""
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif is_config(value) and part in _names(value):
            value = getattr(value, part)
        else:
            known = list(value) if isinstance(value, Mapping) else _names(value)
            raise ConfigError(f"{path}: no key {part!r}{nearest(part, known)}")
    return value


def replace(value: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a config with the values at dotted paths exchanged.

    Args:
        value: A config.
        changes: Dotted path to new value, `{"agent.discount": 0.9}`.

    Raises:
        ConfigError: A path does not exist.
    """
    for path, new in changes.items():
        get(value, path)
        value = _replace_one(value, path.split("."), new)
    return value


def _replace_one(value: Any, parts: list[str], new: Any) -> Any:
    head, *rest = parts
    if isinstance(value, Mapping):
        inner = _replace_one(value[head], rest, new) if rest else new
        return {**value, head: inner}
    inner = _replace_one(getattr(value, head), rest, new) if rest else new
    return dataclasses.replace(value, **{head: inner})


def _names(value: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(value)] if is_config(value) else []


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known name, else the empty string."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def anneal(value: Any, progress: Any) -> Any:
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
    return _rebuild(value, changes)


def _annealed(value: Any, schedule: Annealing, end: Any, progress: Any) -> Any:
    import jax.numpy as jnp

    start = getattr(value, schedule.sibling)
    fraction = getattr(value, schedule.over) if schedule.over else 1.0
    passed = jnp.clip(progress / fraction, 0.0, 1.0)
    return start + passed * ((start * end if schedule.relative else end) - start)


def _rebuild(value: Any, changes: Mapping[str, Any]) -> Any:
    return dataclasses.replace(value, **changes) if changes else value


# --------------------------------------------------------------------- validation


def canonical(value: Any) -> Any:
    """The one form of a config, and the door where it is checked.

    Lists become tuples and ints in float fields become floats, so that configs built
    in Python and by Hydra are the same tree.

    Raises:
        ConfigError: A value has the wrong type or lies outside its domain.
    """
    changes = {}
    for field in fields(type(value)):
        inner = getattr(value, field.name)
        changes[field.name] = _canonical_value(inner, field)
    made = dataclasses.replace(value, **changes)
    check(made)
    return made


def _canonical_value(value: Any, field: Field) -> Any:
    if is_config(value):
        return canonical(value) if field.is_group else value
    if isinstance(value, list | tuple):
        return tuple(_canonical_value(v, field) for v in value)
    if isinstance(value, Mapping):
        return {k: _canonical_value(value[k], field) for k in sorted(value)}
    if field.is_leaf and type(value) is int:
        return float(value)
    return value


def check(value: Any, prefix: str = "") -> None:
    """Refuse a config with a value of the wrong type or outside its domain."""
    for path, field, inner in walk(value, prefix):
        if not is_config(inner):
            _check_field(path, field, inner)


def _check_field(path: str, field: Field, value: Any) -> None:
    if not _fits(value, field.type):
        raise ConfigError(f"{path}={value!r}: expected {describe(field)}")
    for item in _items(value):
        if item is not None and item not in field.domain:
            hint = nearest(str(item), getattr(field.domain, "names", ()))
            raise ConfigError(f"{path}={item!r}: expected {describe(field)}{hint}")


def describe(field: Field) -> str:
    """What a field accepts, in words."""
    text = str(field.domain) or type_name(field.type)
    if int in _parts(field.type) and isinstance(field.domain, Interval):
        text = text.replace("a number", "an integer")
    elif field.is_leaf and not isinstance(field.domain, Interval):
        text = "a number"
    return text + (" or null" if type(None) in _parts(field.type) else "")


def type_name(hint: Any) -> str:
    """The type of a field as the documentation writes it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else (value,)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, a) for a in arguments)
    if origin is not None:
        return isinstance(value, origin) and all(
            _fits(v, arguments[-1] if origin is dict else arguments[0])
            for v in _items(value)
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return type(value) is int
    return value is None if hint is type(None) else isinstance(value, hint)
