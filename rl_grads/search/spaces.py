"""What a search draws from: the values of one key, on the scale of its domain."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from rl_grads.config.domains import Domain, Interval

_DIGITS = 6  # Of a drawn number: it is to be typed again.


class Dimension(Protocol):
    """The values of one key, by where they stand in [0, 1)."""

    def at(self, place: float) -> str:
        """`KEY=VALUE` for a place in [0, 1)."""
        ...


class Choice(NamedTuple):
    """Some values of a key, each as likely as the others.

    Example:
        >>> Choice(("agent=sarsa", "agent=q_learning")).at(0.5)
        'agent=q_learning'
    """

    options: tuple[str, ...]

    def at(self, place: float) -> str:
        """The option at a place in [0, 1)."""
        return self.options[int(place * len(self.options))]


class Range(NamedTuple):
    """Numbers between two ends.

    Attributes:
        key: The dotted key.
        low: The lower end.
        high: The upper end, above it.
        log: Whether they are spread by their logarithms.
        whole: Whether they are integers, both ends included.

    Example:
        >>> Range("optimizer.learning_rate", 1e-4, 1e-2, log=True).at(0.5)
        'optimizer.learning_rate=0.001'
        >>> Range("training.batch_size", 1, 4, whole=True).at(0.99)
        'training.batch_size=4'
    """

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, place: float) -> str:
        """The number at a place in [0, 1)."""
        low, high = self.low, self.high + (1 if self.whole else 0)
        if self.log:
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        else:
            value = low + place * (high - low)
        number = str(int(value)) if self.whole else f"{value:.{_DIGITS}g}"
        return f"{self.key}={number}"


def is_scale(domain: Domain) -> bool:
    """Whether a domain's numbers are sizes, which are spread by their logarithms."""
    return isinstance(domain, Interval) and (domain.low, domain.high) == (0, math.inf)


def draw(dimensions: Sequence[Dimension], places: np.ndarray) -> list[tuple[str, ...]]:
    """The points at some places, each once.

    Args:
        dimensions: The values of every key.
        places: Numbers in [0, 1), `[points, dimensions]`.

    Returns:
        The overrides of each point, in the order of the places.
    """
    found = [
        tuple(d.at(float(u)) for d, u in zip(dimensions, row, strict=True))
        for row in places
    ]
    return list(dict.fromkeys(found))


def random_places(points: int, dimensions: int, seed: int) -> np.ndarray:
    """Independent uniform numbers, `[points, dimensions]`."""
    return np.random.default_rng(seed).random((points, dimensions))


def sobol_places(points: int, dimensions: int, seed: int) -> np.ndarray:
    """A scrambled Sobol sequence (Owen 1998), `[points, dimensions]`."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    return sequence.random_base2(math.ceil(math.log2(points)))[:points]
