"""Overrides of whole numbers: `1e5` is what one types for a hundred thousand.

Hydra's grammar reads it as a float, which no field of integers takes.
"""

import re

from rl_grads.cli import text_fields
from rl_grads.config.declaring import plain_types

# A word of its own, between the signs of Hydra's grammar.
_WORD = re.compile(r"(?<![\w.+-])\d[\d_]*(?:\.\d*)?[eE]\+?\d{1,2}(?![\w.])")


def as_typed(argument: str) -> str:
    """The argument with whole numbers written out, for fields of integers.

    Args:
        argument: An argument of the command line; what sets no such field is returned
            as it is, and so is a number that is not whole.

    Example:
        >>> as_typed("training.total_steps=1e5"), as_typed("seeds=1e1,2.5e1")
        ('training.total_steps=100000', 'seeds=10,25')
        >>> as_typed("optimizer.learning_rate=1e5"), as_typed("seeds=1.5e0")
        ('optimizer.learning_rate=1e5', 'seeds=1.5e0')
    """
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in keys():
        return argument
    return f"{key}={_WORD.sub(_written_out, value)}"


def keys() -> set[str]:
    """Dotted keys of all fields that hold integers, and no other numbers."""
    floats, ints = set(), set()
    for path, field in text_fields.every_field():
        (ints if int in plain_types(field.type) else floats).add(path)
    return ints - floats


def _written_out(word: re.Match[str]) -> str:
    number = float(word[0])
    return str(int(number)) if number.is_integer() else word[0]
