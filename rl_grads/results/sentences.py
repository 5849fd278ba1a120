"""Comparisons in words, in lines of at most 80 columns."""

import textwrap
from collections.abc import Iterator

from rl_grads.analysis.tasks import Estimate
from rl_grads.config import shorten
from rl_grads.results import formats, groups, words
from rl_grads.results.comparison import FINAL, Comparison, Effect, Pair
from rl_grads.tracking.metrics import higher_is_better

_NAME = 30  # Characters of a value.
_LEVEL = 0.05
_DIRECTIONS = {
    True: "higher is better",
    False: "lower is better",
    None: "neither end is better",
}


def told(comparison: Comparison) -> Iterator[str]:
    """What was compared, a small table for every pair, and what it says."""
    yield from textwrap.wrap(_head(comparison), formats.WIDTH)
    for pair in comparison.pairs:
        yield ""
        yield from _block(comparison, pair)


def _head(comparison: Comparison) -> str:
    """What is compared, and how."""
    direction = _DIRECTIONS[higher_is_better(comparison.metric)]
    name = groups.short([comparison.key])[0]
    parts = [f"{comparison.metric} ({direction}) by {name}"]
    if comparison.others:
        settings = {pair.settings for pair in comparison.pairs}
        count = " or ".join(map(str, sorted(settings)))
        others = ", ".join(groups.short(comparison.others))
        parts.append(f"like with like at {count} settings of {others}")
    if comparison.normalised:
        parts.append("differences of normalised scores")
    count = len(comparison.pairs)
    family = f", Holm over {count} comparisons" if count > 1 else ""
    parts.append(f"95 % bootstrap intervals; p by permutation{family}")
    return "; ".join(parts)


def _block(comparison: Comparison, pair: Pair) -> Iterator[str]:
    rows = [("", "probability", "difference of means", "p")]
    for name, effect in pair.effects.items():
        p = words.probability(effect.p)
        rows.append((name, _interval(effect.improvement), _difference(effect), p))
    yield f"{_short(pair.value)} against {_short(pair.other)}"
    yield from formats.aligned(rows)
    yield from textwrap.wrap(sentence(comparison, pair), formats.WIDTH)


def _short(value: str) -> str:
    return shorten(value, _NAME)


def _verb(comparison: Comparison) -> str:
    known = higher_is_better(comparison.metric) is not None
    return "beats" if known else "is above"


def _interval(found: Estimate) -> str:
    value = words.probability(found.value)
    if found.low is None or found.high is None:
        return value
    low, high = words.probability(found.low), words.probability(found.high)
    return f"{value} ({low} to {high})"


def _difference(effect: Effect) -> str:
    return "-" if effect.difference is None else words.value(effect.difference)


def sentence(comparison: Comparison, pair: Pair) -> str:
    """The outcome at the end of training, in a plain sentence."""
    effect, (n, m) = pair.effects[FINAL], pair.n
    one, other, improvement = _short(pair.value), _short(pair.other), effect.improvement
    if improvement.value < 0.5:
        one, other, n, m = other, one, m, n
        improvement = _turned(improvement)
    told = f"with probability {_interval(improvement)}, n = {n} and {m}"
    whole = f"{one} {_verb(comparison)} {other} {told}"
    if effect.p > _LEVEL:
        return f"{whole}: chance alone may do that (p = {words.probability(effect.p)})."
    return f"{whole}."


def _turned(found: Estimate) -> Estimate:
    """The same from the other side."""
    low, high = (None if x is None else 1.0 - x for x in (found.high, found.low))
    return Estimate(1.0 - found.value, low, high, found.n)
