"""Aggregates over the members of a population, with bootstrap intervals.

Every aggregate acts on the last axis. A set with a non-finite member has no mean and
no interquartile mean (nan, `null` in files): to rank nan among numbers would be a
choice, and to leave it out would flatter a method that diverges. A member that
diverged and was evaluated has a finite value and counts like any other.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.typing import PyTree

METHOD = "percentile bootstrap"
_RESAMPLES = 2000
# Of `spread`: the numbers of all its resamples together, how many there are at least,
# and for how many values there are some.
_RESAMPLED, _FEWEST_RESAMPLES, _MOST_RESAMPLED = 2**19, 200, 2**15
Statistic = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """A confidence interval; `low` and `high` are None where there is none.

    Attributes:
        low: Lower end, in the unit of the values.
        high: Upper end.
        method: How it was computed.
        n: Number of values.
        confidence: Nominal coverage.
    """

    low: float | None
    high: float | None
    method: str
    n: int
    confidence: float


def mean(values: PyTree) -> np.ndarray:
    """The mean over the last axis; nan where a value is not finite.

    Args:
        values: Array `[..., n]`.

    Returns:
        Array `[...]`, float64.
    """
    return _finite_rows(np.mean, np.asarray(values, np.float64))


def iqm(values: PyTree) -> np.ndarray:
    """The interquartile mean over the last axis; nan where a value is not finite.

    The mean of the middle half of the sorted values. Where a quarter of `n` is not
    whole, the values at the two edges count by the fraction that lies inside, so that
    the weights always sum to `n / 2` (for `n` divisible by four this is
    `scipy.stats.trim_mean(values, 0.25)`). Agarwal et al. (2021), "Deep Reinforcement
    Learning at the Edge of the Statistical Precipice".

    Args:
        values: Array `[..., n]`, `n >= 1`.

    Returns:
        Array `[...]`, float64.

    Example:
        >>> float(iqm([0, 1, 2, 3, 4, 5, 6, 7]))
        3.5
        >>> float(iqm([1.0, 2.0, 3.0, 4.0, 100.0]))
        3.0
    """
    return _finite_rows(_trimmed_mean, np.asarray(values, np.float64))


def _trimmed_mean(values: np.ndarray, axis: int) -> np.ndarray:
    n = values.shape[axis]
    rank = np.arange(n)
    inside = np.minimum(rank + 1, 0.75 * n) - np.maximum(rank, 0.25 * n)
    weights = np.clip(inside, 0.0, 1.0)
    return np.sort(values, axis) @ weights / weights.sum()


def _finite_rows(statistic: Callable, values: np.ndarray) -> np.ndarray:
    """A statistic over the last axis, nan for rows with a non-finite value."""
    if not values.ndim or not values.shape[-1]:
        raise ValueError(f"values has shape {values.shape}: expected at least one")
    finite = np.isfinite(values)
    safe = np.where(finite, values, 0.0)
    return np.where(finite.all(-1), statistic(safe, axis=-1), np.nan)


def interval(
    values: PyTree,
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A percentile bootstrap interval of a statistic of independent values.

    Members are drawn with replacement; the ends are percentiles of the resampled
    statistics. The same values give the same interval. With few members it is narrow:
    at n = 10 a nominal 95 % interval of a mean covers about 90 %.

    Args:
        values: Array `[n]`, one per member.
        statistic: Acts on the last axis, such as `mean` or `iqm`.
        confidence: Nominal coverage in (0, 1).
        resamples: Number of resampled sets.
        seed: Of the resampling.

    Returns:
        The interval, without ends for fewer than three or for non-finite values.

    Raises:
        ValueError: `values` is no vector, or `confidence` lies outside (0, 1).
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"values has shape {array.shape}: expected [members]")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: expected a number in (0, 1)")
    n = array.size
    if n < 3 or not np.isfinite(array).all():
        return Interval(None, None, METHOD, n, confidence)
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(statistic(array[drawn]), [tail, 1.0 - tail])
    return Interval(float(low), float(high), METHOD, n, confidence)


def spread(columns: PyTree) -> dict[str, list[float]]:
    """Mean, interquartile mean and interval of the mean of many sets of values at once.

    For rows of metrics while a run goes on, cheaply: one product of matrices for all
    sets. Up to 262 values the interval is that of `interval(values, mean)`, from there
    on with fewer resamples, 200 at least.

    Args:
        columns: Array `[sets, n]`.

    Returns:
        By name, `[sets]` each: `""` the mean, `iqm`, and `low` and `high`, the ends of
        the interval. With fewer than three values in a set the mean alone; with more
        than 32,768 no interval. A set with a non-finite value has nan everywhere.

    Example:
        >>> spread([[1.0, 2.0]])
        {'': [1.5]}
        >>> found = spread([[0.0, 1.0, 2.0, 3.0]])
        >>> found[""], found["iqm"], found["low"], found["high"]
        ([1.5], [1.5], [0.5], [2.5])
    """
    array = np.asarray(columns, np.float64)
    found = {"": mean(array)}
    n = array.shape[-1]
    if n >= 3:
        found["iqm"] = iqm(array)
    if 3 <= n <= _MOST_RESAMPLED:
        found["low"], found["high"] = _finite_rows(_ends, array)
    return {name: values.tolist() for name, values in found.items()}


def _ends(values: np.ndarray, axis: int) -> np.ndarray:
    """Ends of the interval of the mean, `[2, sets]`."""
    counts = _resamples(values.shape[axis])
    return np.quantile(values @ counts.T, [0.025, 0.975], axis=axis)


@functools.lru_cache(maxsize=2)
def _resamples(n: int) -> np.ndarray:
    """`[resamples, n]`: how often a value is drawn, over `n`; as `interval` draws."""
    count = min(_RESAMPLES, max(_FEWEST_RESAMPLES, _RESAMPLED // n))
    drawn = np.random.default_rng(0).integers(n, size=(count, n))
    places = (drawn + n * np.arange(count)[:, None]).ravel()
    return np.bincount(places, minlength=count * n).reshape(count, n) / n


def probability_of_improvement(
    values: PyTree, baseline: PyTree, seed: int = 0
) -> Interval:
    """How likely one run of a method is to beat one run of a baseline; ties count half.

    Agarwal et al. (2021), section 4.3, for one task. The interval is a percentile
    bootstrap over the runs of both.

    Args:
        values: Scores of the method, `[n]`.
        baseline: Scores of the baseline, `[m]`.
        seed: Of the resampling.

    Returns:
        The interval; see `mean_improvement` for the value itself.

    Raises:
        ValueError: Either is no vector.

    Example:
        >>> probability_of_improvement([3.0, 4.0, 5.0], [0.0, 1.0, 2.0]).low
        1.0
    """
    return _of_two(mean_improvement, values, baseline, seed)


def mean_improvement(values: PyTree, baseline: PyTree) -> np.ndarray:
    """Part of all pairs in which a value beats a baseline's; ties count half.

    Args:
        values: `[..., n]`.
        baseline: `[..., m]`.

    Returns:
        `[...]`.

    Example:
        >>> float(mean_improvement([1.0, 2.0], [1.0, 0.0]))
        0.875
    """
    runs = np.asarray(values, np.float64)[..., :, None]
    other = np.asarray(baseline, np.float64)[..., None, :]
    return np.mean((runs > other) + 0.5 * (runs == other), axis=(-2, -1))


def ratio_of_means(values: PyTree, baseline: PyTree, seed: int = 0) -> Interval:
    """The interval of a method's mean as a fraction of a baseline's mean.

    A percentile bootstrap over the runs of both, drawn apart from each other.

    Args:
        values: Scores of the method, `[n]`.
        baseline: Scores of the baseline, `[m]`, with a mean above zero.
        seed: Of the resampling.

    Raises:
        ValueError: Either is no vector.

    Example:
        >>> found = ratio_of_means([2.0, 2.0, 2.0], [4.0, 4.0, 4.0])
        >>> found.low, found.high
        (0.5, 0.5)
    """
    return _of_two(lambda a, b: mean(a) / mean(b), values, baseline, seed)


def _of_two(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    values: PyTree,
    baseline: PyTree,
    seed: int,
) -> Interval:
    """The interval of a statistic of two groups of runs, each resampled by itself."""
    runs, other = (np.asarray(x, np.float64) for x in (values, baseline))
    if runs.ndim != 1 or other.ndim != 1:
        raise ValueError(f"shapes {runs.shape}, {other.shape}: expected [n] and [m]")
    if min(runs.size, other.size) < 3:
        return Interval(None, None, METHOD, runs.size, 0.95)
    random = np.random.default_rng(seed)
    drawn = [random.choice(x, (2000, x.size)) for x in (runs, other)]
    ends = np.quantile(statistic(*drawn), [0.025, 0.975])
    low, high = ends.tolist() if np.isfinite(ends).all() else (None, None)
    return Interval(low, high, METHOD, runs.size, 0.95)


def summarise(values: Sequence[float] | np.ndarray) -> dict[str, PyTree]:
    """Mean and interquartile mean of a final metric, as `summary.json` has them.

    Args:
        values: Array `[members]`.

    Returns:
        `{"mean": {"value", "low", "high", "method", "n", "confidence"}, "iqm": {...},
        "members": [...], "non_finite": count}`. `value`, `low` and `high` are None
        where they are unknown; `members` keeps non-finite values.

    Example:
        >>> summarise([1.0, 2.0])["mean"]["value"], summarise([1.0, 2.0])["mean"]["low"]
        (1.5, None)
    """
    array = np.asarray(values, np.float64)
    return {
        "mean": _estimate(array, mean),
        "iqm": _estimate(array, iqm),
        "members": array.tolist(),
        "non_finite": int((~np.isfinite(array)).sum()),
    }


def _estimate(values: np.ndarray, statistic: Statistic) -> dict[str, PyTree]:
    value = float(statistic(values))
    known = value if np.isfinite(value) else None
    return {"value": known, **interval(values, statistic)._asdict()}
