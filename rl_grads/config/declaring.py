"""Fields of a config: how they are declared, and what is known of them."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from rl_grads.config.domains import Anything, Domain, Interval, anything, counts, real
from rl_grads.typing import Value


def setting(default: Value, meaning: str, domain: Domain = anything) -> Value:
    """A static field: part of the program's structure.

    Args:
        default: Its value when nothing is said; a list or dict is copied.
        meaning: One line for the generated page of keys, with the unit.
        domain: The values it accepts.

    Example:
        >>> from rl_grads.config import at_least, check, config
        >>> @config
        ... class Layers:
        ...     width: int = setting(64, "units per layer", at_least(1))
        >>> check(Layers(width=0))
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: width=0: expected an integer in [1, 2147483647]
    """
    return _declare(default, {"meaning": meaning, "domain": domain})


def number(
    default: Value,
    meaning: str,
    domain: Domain = real,
    *,
    anneals: str | None = None,
    relative: bool = False,
    over: str | None = None,
) -> Value:
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
        >>> from rl_grads.config import anneal, config, positive
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


def group(default: Callable[[], Value], meaning: str) -> Value:
    """A nested config. `default` is the config class that stands there."""
    metadata = {"meaning": meaning, "domain": anything, "group": True}
    return dataclasses.field(default_factory=default, metadata=metadata)


def _declare(default: Value, metadata: dict[str, Value]) -> Value:
    if isinstance(default, list | dict):
        return dataclasses.field(
            default_factory=lambda: type(default)(default), metadata=metadata
        )
    return dataclasses.field(default=default, metadata=metadata)


class Annealing(NamedTuple):
    """A field says where a sibling ends; see `number`."""

    sibling: str
    relative: bool
    over: str | None


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


def _field(field: dataclasses.Field, hint: Value) -> Field:
    default, kinds = field.default, plain_types(hint)
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


def _with_ends(domain: Domain, kinds: set[Value]) -> Domain:
    """The domain of a field of such types; one of numbers has both its ends."""
    kinds = kinds - {type(None)}
    if isinstance(domain, Anything) and kinds and kinds <= {int, float}:
        domain = real
    if isinstance(domain, Interval) and kinds == {int}:
        return counts(domain)
    return domain


def plain_types(hint: Value) -> set[Value]:
    """Every plain type inside an annotation: `tuple[float, ...] | None` has float.

    Of a mapping it is that of the values.
    """
    arguments = [a for a in typing.get_args(hint) if a is not ...]
    if not arguments:
        return {hint}
    if typing.get_origin(hint) is dict:
        arguments = arguments[1:]
    return set().union(*(plain_types(a) for a in arguments))
