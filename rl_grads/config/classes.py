"""Config classes: dataclasses that are JAX pytrees, and the names they go by."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TypeVar, dataclass_transform, overload

from rl_grads.config.declaring import Field, fields
from rl_grads.config.words import ConfigError
from rl_grads.typing import Value

T = TypeVar("T")

_CLASSES: list[type] = []
_REGISTERED: set[type] = set()  # Those that JAX knows as pytrees.
SCHEMAS: dict[str, type] = {}  # "group/name" to the class declared there.


@overload
@dataclass_transform()
def config(target: type[T], /) -> type[T]: ...


@overload
@dataclass_transform()
def config(target: str, /) -> Callable[[type[T]], type[T]]: ...


def config(target: type | str, /) -> type | Callable[[type], type]:
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
    schema = dataclasses.dataclass(slots=True)(cls)
    schema.__init__ = _registering(schema.__init__)
    _CLASSES.append(schema)
    if name is not None:
        SCHEMAS[name] = schema
    return schema


def _registering(init: Callable[..., None]) -> Callable[..., None]:
    """`__init__` that also sees to it that JAX, once it is loaded, knows the class."""

    @functools.wraps(init)
    def __init__(self: object, *args: object, **values: object) -> None:
        init(self, *args, **values)
        if type(self) not in _REGISTERED and "jax" in sys.modules:
            as_pytree()

    return __init__


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
    name = full_name(type(value))
    if name is None:
        raise ConfigError(f"{type(value).__name__} is no named config")
    return name.partition("/")[2]


def has_name(value: object) -> bool:
    """Whether a config's class was declared with a name."""
    return full_name(type(value)) is not None


def full_name(cls: type) -> str | None:
    """The `"group/name"` of a config class."""
    return next((name for name, known in SCHEMAS.items() if known is cls), None)


def schema_group(field: "Field") -> str:
    """The Hydra group whose classes may stand in a section, empty if it has none."""
    return (full_name(type(field.default)) or "").partition("/")[0]


def as_pytree() -> None:
    """Register every config class with JAX; calls after the first add new ones.

    Making a config does it where JAX is loaded. What hands out compiled programs
    (agents, populations) calls it for configs that were made before.
    """
    import jax

    for cls in _CLASSES:
        if cls not in _REGISTERED:
            _REGISTERED.add(cls)
            _register(jax, cls)


def _register(jax: ModuleType, cls: type) -> None:
    declared = fields(cls)
    inner = tuple(f.name for f in declared if f.is_leaf or f.is_group)
    outer = tuple(f.name for f in declared if not (f.is_leaf or f.is_group))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in inner)

    def flatten(value: Value) -> tuple[tuple, tuple]:
        children = tuple(getattr(value, name) for name in inner)
        return children, tuple(_hashable(getattr(value, name)) for name in outer)

    def flatten_with_keys(value: Value) -> tuple[tuple, tuple]:
        children, static = flatten(value)
        return tuple(zip(keys, children, strict=True)), static

    def unflatten(static: tuple, children: Iterable) -> Value:
        value = object.__new__(cls)
        for name, child in zip(inner, children, strict=True):
            object.__setattr__(value, name, child)
        for name, child in zip(outer, static, strict=True):
            object.__setattr__(value, name, child)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


class Fixed(dict):
    """A mapping of plain values as part of a program's structure: it has a hash.

    Example:
        >>> Fixed({"size": 1}) == Fixed({"size": True})
        False
    """

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and repr(self) == repr(Fixed(other))

    def __ne__(self, other: object) -> bool:
        return not self == other


def _hashable(value: Value) -> Value:
    if isinstance(value, dict):
        return Fixed(value)
    return tuple(value) if isinstance(value, list) else value
