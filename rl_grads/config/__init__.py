"""Configs: dataclasses that are JAX pytrees.

A `float` field is a leaf, an input of the compiled program: set it, sweep it or
differentiate it. Every other field is static and part of the tree's structure.
`None` switches a feature off by changing that structure.

This room imports no JAX, so that the command line answers at once. JAX is told of the
classes when a config is made and JAX is loaded (see `as_pytree`).

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

from rl_grads.config.changing import (
    anneal,
    get,
    leaf_paths,
    leaves,
    replace,
    walk,
)
from rl_grads.config.checking import canonical, check, describe, type_name
from rl_grads.config.classes import (
    SCHEMAS,
    as_pytree,
    config,
    has_name,
    is_config,
    is_config_class,
    schema_group,
    schema_name,
)
from rl_grads.config.declaring import (
    Annealing,
    Field,
    fields,
    group,
    number,
    setting,
)
from rl_grads.config.domains import (
    LARGEST_COUNT,
    Domain,
    Interval,
    OneOf,
    anything,
    at_least,
    between,
    non_negative,
    one_of,
    plain,
    positive,
    real,
    unit,
)
from rl_grads.config.words import ConfigError, nearest, shorten, shown

__all__ = [
    "LARGEST_COUNT",
    "SCHEMAS",
    "Annealing",
    "ConfigError",
    "Domain",
    "Field",
    "Interval",
    "OneOf",
    "anneal",
    "anything",
    "as_pytree",
    "at_least",
    "between",
    "canonical",
    "check",
    "config",
    "describe",
    "fields",
    "get",
    "group",
    "has_name",
    "is_config",
    "is_config_class",
    "leaf_paths",
    "leaves",
    "nearest",
    "non_negative",
    "number",
    "one_of",
    "plain",
    "positive",
    "real",
    "replace",
    "schema_group",
    "schema_name",
    "setting",
    "shorten",
    "shown",
    "type_name",
    "unit",
    "walk",
]
