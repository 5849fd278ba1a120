"""Aggregates over the runs of several tasks, as Agarwal et al. (2021) define them.

Scores are a sequence with one array `[..., runs]` for each task, in which tasks may
have different numbers of runs. With equal numbers the values are those of the library
rliable for the matrix `[runs, tasks]`. Where a score is not finite there is no
aggregate (nan), but for comparisons and profiles, in which it is the worst: what
diverged has lost to all that did not.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.analysis.statistics import mean, mean_improvement
from rl_grads.typing import PyTree

_RESAMPLES = 2000
_PERMUTATIONS = 9999
_AT_ONCE = 10_000_000  # Numbers that a comparison holds.
Scores = Sequence[PyTree]


class Estimate(NamedTuple):
    """A value with its 95 % bootstrap interval.

    Attributes:
        value: The point estimate; nan where there is none.
        low: Lower end; None with fewer than three runs of a task, or without a value.
        high: Upper end.
        n: Number of runs, over all tasks.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def task_mean(scores: Scores) -> np.ndarray:
    """The mean over tasks of each one's mean over runs.

    Example:
        >>> float(task_mean([[1.0, 3.0], [4.0, 6.0]]))
        3.5
    """
    return np.mean(_means(scores), axis=0)


def task_median(scores: Scores) -> np.ndarray:
    """The median over tasks of each one's mean over runs.

    Example:
        >>> float(task_median([[1.0, 3.0], [4.0, 6.0], [90.0]]))
        5.0
    """
    means = _means(scores)
    known = np.isfinite(means).all(0)
    return np.where(known, np.median(np.where(known, means, 0.0), axis=0), np.nan)


def task_iqm(scores: Scores) -> np.ndarray:
    """The interquartile mean over all runs of all tasks together.

    A quarter of the runs, rounded down, is left out at each end, as rliable does it.
    `statistics.iqm`, which is for the members of one task, counts the runs at the
    edges by the part that lies inside; for `n` divisible by four they are equal.

    Example:
        >>> float(task_iqm([[0.0, 1.0, 2.0], [3.0, 100.0]]))
        2.0
    """
    every = np.sort(_pooled(scores), axis=-1)
    n = every.shape[-1]
    middle = mean(every[..., n // 4 : n - n // 4])
    return np.where(np.isfinite(every).all(-1), middle, np.nan)


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
    """How far runs fall short of a target on average; what is above counts as reached.

    Args:
        scores: Normalised, so that one target holds for all tasks.
        target: What is wanted.

    Example:
        >>> float(optimality_gap([[0.5, 2.0], [1.0, 0.5]]))
        0.25
    """
    every = _pooled(scores)
    return target - mean(np.where(every > target, target, every))


def improvement(scores: Scores, baseline: Scores) -> np.ndarray:
    """How likely a run beats one of a baseline on the same task, a mean over tasks.

    Ties count half.

    Args:
        scores: Of the method; higher is better.
        baseline: Of the baseline, tasks in the same order.

    Raises:
        ValueError: The numbers of tasks differ.

    Example:
        >>> float(improvement([[1.0, 2.0], [5.0]], [[1.0, 0.0], [7.0]]))
        0.4375
    """
    pairs = zip(_ranked(scores), _ranked(baseline), strict=True)
    return np.mean([mean_improvement(*pair) for pair in pairs], axis=0)


def profile(scores: Scores, thresholds: PyTree) -> np.ndarray:
    """The part of all runs that score above each threshold.

    Args:
        scores: Normalised, where there is more than one task.
        thresholds: `[thresholds]`.

    Returns:
        `[..., thresholds]`.

    Example:
        >>> profile([[1.0, 2.0], [3.0, 4.0]], [0.0, 2.0, 3.5]).tolist()
        [1.0, 0.5, 0.25]
    """
    every = np.concatenate(_ranked(scores), axis=-1)
    return np.mean(every[..., None, :] > np.asarray(thresholds)[:, None], axis=-1)


def difference(scores: Scores, baseline: Scores) -> np.ndarray:
    """The difference of the means over runs, a mean over tasks.

    Example:
        >>> float(difference([[1.0, 3.0], [4.0]], [[1.0], [1.0]]))
        2.0
    """
    return task_mean(scores) - task_mean(baseline)


def _means(scores: Scores) -> np.ndarray:
    return np.stack([mean(task) for task in scores])


def _pooled(scores: Scores) -> np.ndarray:
    return np.concatenate([np.asarray(task, np.float64) for task in scores], axis=-1)


def _ranked(scores: Scores) -> list[np.ndarray]:
    """Scores in which nan, that of a run without a value, is the worst of all."""
    arrays = [np.asarray(task, np.float64) for task in scores]
    return [np.where(np.isnan(task), -np.inf, task) for task in arrays]


# ------------------------------------------------------------------------ uncertainty


def estimate(
    statistic: Callable[..., np.ndarray], *groups: Scores, seed: int = 0
) -> Estimate:
    """A statistic with its interval, by a bootstrap that is stratified by task.

    The runs of every task and group are drawn with replacement, each by themselves;
    the ends are percentiles of the statistic of what was drawn.

    Args:
        statistic: Of as many groups, such as `task_iqm` or `improvement`.
        groups: Scores, `[tasks][runs]`.
        seed: Of the resampling.

    Example:
        >>> estimate(task_mean, [[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
        Estimate(value=2.0, low=2.0, high=2.0, n=6)
    """
    value = float(statistic(*groups))
    sizes = [len(task) for scores in groups for task in scores]
    n = sum(len(task) for task in groups[0])
    if min(sizes) < 3 or not np.isfinite(value):
        return Estimate(value, None, None, n)
    ends = np.quantile(_resampled(statistic, groups, seed), [0.025, 0.975])
    low, high = ends.tolist() if np.isfinite(ends).all() else (None, None)
    return Estimate(value, low, high, n)


class Band(NamedTuple):
    """A profile with its pointwise 95 % bootstrap interval, `[thresholds]` each."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def profile_band(scores: Scores, thresholds: PyTree, seed: int = 0) -> Band:
    """A performance profile, and where it would lie with other runs.

    Args:
        scores: `[tasks][runs]`.
        thresholds: `[thresholds]`.
        seed: Of the resampling.

    Example:
        >>> profile_band([[1.0, 1.0, 1.0]], [0.0, 2.0]).high.tolist()
        [1.0, 0.0]
    """
    drawn = _resampled(lambda s: profile(s, thresholds), (scores,), seed)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Band(profile(scores, thresholds), low, high)


def _resampled(
    statistic: Callable[..., np.ndarray], groups: Sequence[Scores], seed: int
) -> np.ndarray:
    """The statistic of resampled groups, `[resamples, ...]`, some at once."""
    random = np.random.default_rng(seed)
    sizes = [sum(len(task) for task in scores) for scores in groups]
    part = max(1, min(_RESAMPLES, _AT_ONCE // max(1, int(np.prod(sizes)))))
    parts = []
    for begin in range(0, _RESAMPLES, part):
        count = min(part, _RESAMPLES - begin)
        drawn = [[_drawn(random, task, count) for task in s] for s in groups]
        parts.append(statistic(*drawn))
    return np.concatenate(parts)


def _drawn(random: np.random.Generator, task: PyTree, count: int) -> np.ndarray:
    values = np.asarray(task, np.float64)
    return values[random.integers(len(values), size=(count, len(values)))]


def permutation_p(scores: Scores, baseline: Scores, seed: int = 0) -> float:
    """How often chance alone gives as large a probability of improvement, or larger.

    Two-sided: runs change groups at random within their tasks, and the distance of
    `improvement` from one half is compared. The observed grouping is one of them, so p
    is never zero (Phipson & Smyth 2010, "Permutation P-values should never be zero").

    Args:
        scores: Of the method.
        baseline: Of the baseline, tasks in the same order.
        seed: Of the permutations.

    Example:
        >>> permutation_p([[1.0, 2.0]], [[1.0, 2.0]])
        1.0
    """
    random = np.random.default_rng(seed)
    pairs = zip(_ranked(scores), _ranked(baseline), strict=True)
    parts = [_permuted(random, *pair) for pair in pairs]
    found = np.abs(np.mean(parts, axis=0) - 0.5)
    return float(np.mean(found >= found[0] - 1e-12))


def _permuted(
    random: np.random.Generator, runs: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """The probability of improvement as it is, and of permuted runs: by ranks."""
    ranks = _ranks(np.concatenate([runs, other]))
    n, m = len(runs), len(other)
    drawn = random.permuted(np.tile(ranks, (_PERMUTATIONS, 1)), axis=1)
    sums = np.concatenate([[ranks[:n].sum()], drawn[:, :n].sum(1)])
    return (sums - n * (n + 1) / 2) / (n * m)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def holm(p_values: PyTree) -> np.ndarray:
    """p-values of several comparisons, corrected so that any false find is rare.

    Holm (1979): the smallest times their number, the next times one less, ..., and none
    smaller than the one before it.

    Args:
        p_values: `[comparisons]`.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
