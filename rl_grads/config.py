"""Configs: dataclasses that are JAX pytrees.

A `float` field is a leaf, an input of the compiled program: set it, sweep it or
differentiate it. Every other field is static and part of the tree's structure.
`None` switches a feature off by changing that structure.

This module imports no JAX, so that the command line answers at once. Classes are
registered with JAX as soon as it is loaded (see `as_pytree`).

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
import functools
import math
import numbers
import sys
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
        low, high = (x if isinstance(x, int) else f"{x:g}" for x in self[:2])
        return f"a number in {left}{low}, {high}{right}"


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


def between(low: float, high: float) -> Interval:
    """Numbers from `low` to `high`, both included."""
    return Interval(low, high, low_closed=True, high_closed=True)


def one_of(*names: str) -> OneOf:
    """One of a few names."""
    return OneOf(names)


LARGEST_COUNT = 2**31 - 1  # Every count becomes an int32 of the program.


def _with_ends(domain: Domain, kinds: set[Any]) -> Domain:
    """The domain of a field of such types; one of numbers has both its ends."""
    kinds = kinds - {type(None)}
    if isinstance(domain, Nothing) and kinds and kinds <= {int, float}:
        domain = real
    if isinstance(domain, Interval) and kinds == {int}:
        return _counts(domain)
    return domain


def _counts(domain: Interval) -> Interval:
    """An interval whose open ends are those of the program's counts."""
    if domain.low == -math.inf:
        domain = domain._replace(low=-LARGEST_COUNT, low_closed=True)
    if domain.high == math.inf:
        domain = domain._replace(high=LARGEST_COUNT, high_closed=True)
    return domain


# ------------------------------------------------------------------------ fields


def setting(default: Any, meaning: str, domain: Domain = anything) -> Any:
    """A static field: part of the program's structure.

    Args:
        default: Its value when nothing is said; a list or dict is copied.
        meaning: One line for the generated page of keys, with the unit.
        domain: The values it accepts.

    Example:
        >>> @config
        ... class Layers:
        ...     width: int = setting(64, "units per layer", at_least(1))
        >>> check(Layers(width=0))
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: width=0: expected an integer in [1, inf)
    """
    return _declare(default, {"meaning": meaning, "domain": domain})


def _declare(default: Any, metadata: dict[str, Any]) -> Any:
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

    Example:
        >>> @config
        ... class Step:
        ...     size: float = number(0.5, "step size", positive)
        ...     size_final: float | None = number(None, "its end", anneals="size")
        >>> float(anneal(Step(size_final=0.25), 0.5).size)
        0.375
    """
    schedule = Annealing(anneals, relative, over) if anneals else None
    return _declare(
        default, {"meaning": meaning, "domain": domain, "anneals": schedule}
    )


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
_REGISTERED: set[type] = set()  # Those that JAX knows as pytrees.
SCHEMAS: dict[str, type] = {}  # "group/name" to the class declared there.


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
    made = dataclasses.dataclass(slots=True)(cls)
    _CLASSES.append(made)
    if name is not None:
        SCHEMAS[name] = made
    if "jax" in sys.modules:
        as_pytree()
    return made


def is_config_class(cls: type) -> bool:
    """Whether a class was made by `config`."""
    return cls in _CLASSES


def is_config(value: object) -> bool:
    """Whether `value` is an instance of a config class."""
    return is_config_class(type(value))


def schema_name(value: object) -> str:
    """The last part of `"group/name"` under which a config's class was declared.

    Raises:
        ConfigError: The class was declared without a name.
    """
    name = _full_name(type(value))
    if name is None:
        raise ConfigError(f"{type(value).__name__} is no named config")
    return name.partition("/")[2]


def has_name(value: object) -> bool:
    """Whether a config's class was declared with a name."""
    return _full_name(type(value)) is not None


def _full_name(cls: type) -> str | None:
    """The `"group/name"` of a config class."""
    return next((name for name, known in SCHEMAS.items() if known is cls), None)


def schema_group(field: "Field") -> str:
    """The Hydra group whose classes may stand in a section, empty if it has none."""
    return (_full_name(type(field.default)) or "").partition("/")[0]


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


@functools.cache
def fields(cls: type) -> tuple[Field, ...]:
    """The fields of a config class, with their declarations."""
    hints = typing.get_type_hints(cls)
    return tuple(_field(f, hints[f.name]) for f in dataclasses.fields(cls))


def _field(field: dataclasses.Field, hint: Any) -> Field:
    default, kinds = field.default, _parts(hint)
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Field(
        name=field.name,
        type=hint,
        default=default,
        meaning=field.metadata.get("meaning", ""),
        domain=_with_ends(field.metadata.get("domain", anything), kinds),
        is_leaf=float in kinds,
        is_group=bool(field.metadata.get("group")),
        anneals=field.metadata.get("anneals"),
    )


def _parts(hint: Any) -> set[Any]:
    """Every plain type inside an annotation: `tuple[float, ...] | None` has float.

    Of a mapping it is that of the values.
    """
    arguments = [a for a in typing.get_args(hint) if a is not ...]
    if not arguments:
        return {hint}
    if typing.get_origin(hint) is dict:
        arguments = arguments[1:]
    return set().union(*(_parts(a) for a in arguments))


# ------------------------------------------------------------------------- pytree


def as_pytree() -> None:
    """Register every collected class with JAX; calls after the first add new ones.

    Importing an agent does it, and so does declaring a class once JAX is loaded.
    """
    import jax

    for cls in _CLASSES:
        if cls not in _REGISTERED:
            _REGISTERED.add(cls)
            _register(jax, cls)


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
    """Dotted paths of all numbers that are inputs of the program.

    They are the paths that JAX gives them: entries of a tuple go by their index,
    `network.initial_weights.0`, and those of a mapping by name, `env.params.gravity`.
    """
    return tuple(path for path, _ in leaves(value))


def leaves(value: Any) -> Iterator[tuple[str, float]]:
    """All numbers that are inputs of the program, with their dotted paths."""
    for path, field, inner in walk(value):
        if field.is_leaf:
            yield from _numbers(path, inner)


def _numbers(path: str, value: Any) -> list[tuple[str, float]]:
    """A number with its path, those in a collection, none for None."""
    if isinstance(value, Mapping | tuple | list):
        return [(f"{path}.{key}", _child(value, key)) for key in _names(value)]
    return [] if value is None else [(path, value)]


def get(value: Any, path: str) -> Any:
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


def _names(value: Any) -> list[str]:
    """The parts of a path that lead further from a value."""
    if is_config(value):
        return [f.name for f in fields(type(value))]
    if isinstance(value, Mapping):
        return list(value)
    return [str(i) for i in range(len(value))] if isinstance(value, tuple) else []


def _child(value: Any, part: str) -> Any:
    if isinstance(value, tuple):
        return value[int(part)]
    return value[part] if isinstance(value, Mapping) else getattr(value, part)


def replace(value: Any, changes: Mapping[str, Any]) -> Any:
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


def _replace_one(value: Any, parts: list[str], new: Any) -> Any:
    head, *rest = parts
    inner = _replace_one(_child(value, head), rest, new) if rest else new
    if isinstance(value, tuple):
        at = int(head)
        return (*value[:at], inner, *value[at + 1 :])
    if isinstance(value, Mapping):
        return {**value, head: inner}
    return dataclasses.replace(value, **{head: inner})


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
    return dataclasses.replace(value, **changes) if changes else value


def _annealed(value: Any, schedule: Annealing, end: Any, progress: Any) -> Any:
    import jax.numpy as jnp

    start = getattr(value, schedule.sibling)
    fraction = getattr(value, schedule.over) if schedule.over else 1.0
    passed = jnp.clip(progress / fraction, 0.0, 1.0)
    return start + passed * ((start * end if schedule.relative else end) - start)


# --------------------------------------------------------------------- validation


def canonical(value: Any) -> Any:
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
    made = _canonical_config(value)
    check(made)
    return made


def _canonical_config(value: Any) -> Any:
    changes = {
        field.name: _canonical_value(getattr(value, field.name), field)
        for field in fields(type(value))
    }
    return dataclasses.replace(value, **changes)


def _canonical_value(value: Any, field: Field) -> Any:
    if is_config(value):
        return _canonical_config(value)
    if isinstance(value, list | tuple):
        return tuple(_canonical_value(v, field) for v in value)
    if isinstance(value, Mapping):
        return {k: _canonical_value(value[k], field) for k in sorted(value)}
    if isinstance(value, bool):
        return value
    if field.is_leaf and isinstance(value, numbers.Real):
        return _float(value)
    return int(value) if isinstance(value, numbers.Integral) else value


def _float(value: Any) -> float:
    """A number as a float; an integer beyond its range is infinite, and refused."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check(value: Any, prefix: str = "") -> None:
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


def _check_group(path: str, field: Field, value: Any) -> None:
    """A section holds a config: one of its own group where the type leaves it open."""
    found = _full_name(type(value)) or ""
    if field.type is not Any:
        fitting = _fits(value, field.type)
    else:
        group = schema_group(field)
        fitting = is_config(value) and found.partition("/")[0] in ("", group)
    if not fitting:
        raise ConfigError(f"{path}={found or shown(value)}: expected {describe(field)}")


def _check_field(path: str, field: Field, value: Any) -> None:
    if not _fits(value, field.type):
        raise ConfigError(f"{path}={shown(value)}: expected {describe(field)}")
    for inner, item in _items(path, value):
        if item is not None and item not in field.domain:
            names = getattr(field.domain, "names", ())
            hint = nearest(item, names) if isinstance(item, str) else ""
            given = f"{inner}={shown(item)}"
            raise ConfigError(f"{given}: expected {describe(field)}{hint}")


def shown(value: Any) -> str:
    """A value in a message: one line, the middle of a long one left out.

    Example:
        >>> shown("ab" * 50)
        "'abababababababababababababababa...bababababababababababababababab'"
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no integer of more than 4300 digits.
        text = f"{type(value).__name__} of thousands of digits"
    return shorten(text)


def shorten(text: str, length: int = 64) -> str:
    """Text with the middle left out where it is longer than so many characters."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


def describe(field: Field) -> str:
    """What a field accepts, in words."""
    parts = _parts(field.type)
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


def _holds_many(hint: Any) -> bool:
    """Whether an annotation is of tuples, possibly among other types."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return any(_holds_many(a) for a in typing.get_args(hint))
    return typing.get_origin(hint) is tuple


def type_name(hint: Any) -> str:
    """The type of a field as the documentation writes it, without its null."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        named = [type_name(a) for a in typing.get_args(hint) if a is not type(None)]
        return " | ".join(named)
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _items(path: str, value: Any) -> list[tuple[str, Any]]:
    """What a value holds, each with the path that a message gives it."""
    if isinstance(value, Mapping):
        return [(f"{path}.{key}", item) for key, item in value.items()]
    items = value if isinstance(value, list | tuple) else (value,)
    return [(path, item) for item in items]


def _fits(value: Any, hint: Any) -> bool:
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
