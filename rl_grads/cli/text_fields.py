"""Overrides of text fields: what is typed is what is meant.

Hydra's grammar reads `2026_11_28` and `1e3` as numbers before it knows for what they
are, and a text field would get `20261128` and `1000.0`. So such words are quoted.
"""

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from rl_grads.config import SCHEMAS, Field, fields, is_config_class, schema_group
from rl_grads.training.schema import Config

# Hydra's own that one is likely to set; `experiment` is the name of a file.
_HYDRAS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name")
_OTHERS = ("experiment", *_HYDRAS)
_VALUES = (ValueType.ELEMENT, ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP)
# Quoted text stays; a word ends at a comma, a bracket or a quote.
_PIECE = re.compile(
    r"""(?P<kept>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
    r"""|(?P<word>(?:\\.|[^,\[\](){}'"\\])+)"""
)


def as_typed(argument: str) -> str:
    """The argument with words quoted that Hydra would read as numbers, for text fields.

    Args:
        argument: An argument of the command line; what sets no text field is returned
            as it is.

    Example:
        >>> as_typed("run.id=2026_11_28"), as_typed("training.total_steps=1_000")
        ("run.id='2026_11_28'", 'training.total_steps=1_000')
        >>> as_typed("run.id=1e3,b")
        "run.id='1e3',b"
    """
    key, equals, value = argument.partition("=")
    known = keys() | dict.fromkeys(_OTHERS, False)
    many = known.get(key.lstrip("+"))
    if not equals or "${" in value or many is None:
        return argument
    parsed = _parsed(argument)
    if parsed is None or parsed.value_type not in _VALUES:
        return argument
    if isinstance(parsed.value(), list | dict) and not many:
        return argument  # To be refused as it was typed.
    return f"{key}={_PIECE.sub(_quoted, value)}"


def keys() -> dict[str, bool]:
    """Dotted keys of all text fields, and whether each holds several texts.

    Those of every choice of a group are among them.
    """
    declared: dict[str, list[Any]] = {}
    for path, field in every_field():
        declared.setdefault(path, []).append(field.type)
    return {
        path: any("tuple" in str(hint) for hint in hints)
        for path, hints in declared.items()
        if all(map(_is_text, hints))
    }


def every_field(cls: type = Config, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every field that may stand below a section, by its dotted key."""
    for field in fields(cls):
        path = f"{prefix}{field.name}"
        if not field.is_group:
            yield path, field
        for kind in _sections(field) if field.is_group else ():
            yield from every_field(kind, f"{path}.")


def _sections(field: Field) -> list[type]:
    """The config classes that may stand in a section."""
    group = schema_group(field)
    if field.type is Any and group:
        return [cls for name, cls in SCHEMAS.items() if name.startswith(f"{group}/")]
    hints: tuple[Any, ...] = (field.type, *typing.get_args(field.type))
    hints += (type(field.default),)
    return [*dict.fromkeys(hint for hint in hints if is_config_class(hint))]


def _is_text(hint: object) -> bool:
    """Whether an annotation is of text, of tuples of text, or of either or None."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return all(a is type(None) or _is_text(a) for a in arguments)
    return _is_text(arguments[0]) if origin is tuple else hint is str


def _quoted(piece: re.Match[str]) -> str:
    """A word in quotes where Hydra would read a number or a truth value."""
    if piece["word"] is None:
        return piece[0]
    word = piece["word"].strip()
    parsed = _parsed(f"key={word}")
    plain = parsed is None or isinstance(parsed.value(), str | None)
    return piece[0] if plain else piece[0].replace(word, f"'{word}'")


def _parsed(argument: str) -> Override | None:
    """What Hydra reads; None where it will refuse it."""
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError):  # Also a number of thousands of digits.
        return None
