"""The values that a field accepts."""

import math
from typing import NamedTuple, Protocol


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


class Anything(NamedTuple):
    """Accepts whatever has the declared type."""

    def __contains__(self, value: object) -> bool:
        return True

    def __str__(self) -> str:
        return ""


class Plain(NamedTuple):
    """Accepts what JSON can hold."""

    def __contains__(self, value: object) -> bool:
        if isinstance(value, list | tuple):
            return all(item in self for item in value)
        if isinstance(value, dict):
            return all(isinstance(k, str) and v in self for k, v in value.items())
        if isinstance(value, float):
            return math.isfinite(value)
        return value is None or isinstance(value, bool | int | str)

    def __str__(self) -> str:
        return "a plain value"


class Domain(Protocol):
    """Which values a field accepts, and in words."""

    def __contains__(self, value: object, /) -> bool: ...

    def __str__(self) -> str: ...


real = Interval()
positive = Interval(low=0.0)
non_negative = Interval(low=0.0, low_closed=True)
unit = Interval(0.0, 1.0, low_closed=True, high_closed=True)
anything = Anything()
plain = Plain()


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


def counts(domain: Interval) -> Interval:
    """An interval whose open ends are those of the program's counts."""
    if domain.low == -math.inf:
        domain = domain._replace(low=-LARGEST_COUNT, low_closed=True)
    if domain.high == math.inf:
        domain = domain._replace(high=LARGEST_COUNT, high_closed=True)
    return domain
