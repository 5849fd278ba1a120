"""Aggregates over tasks: by hand, and as rliable has them."""

import math

import numpy as np
import pytest
import scipy.stats

from rl_grads.analysis import tasks
from rl_grads.analysis.tasks import Estimate

# [runs, tasks], and what rliable 1.2.0 makes of them.
X = [[1, 2, 3], [4, 0.5, 6], [7, 8, 0.25], [2, 2, 9], [1.5, 3, 3]]
Y = [[0, 2, 5], [4, 1, 1], [3, 9, 0.5], [2, 1, 8], [6, 2, 2]]
MEAN, MEDIAN, IQM = 3.483333333333333, 3.1, 2.9444444444444446
GAP, GAP_3, BETTER = 0.08333333333333337, 0.7833333333333332, 0.5466666666666667
THRESHOLDS = [0, 1, 2, 4, 8]
PROFILE = [1.0, 0.8, 0.5333333333333333, 0.26666666666666666, 0.06666666666666667]


def by_task(matrix):
    return list(np.array(matrix, float).T)


def test_aggregates_are_those_of_rliable_on_literal_numbers():
    x, y = by_task(X), by_task(Y)
    assert float(tasks.task_mean(x)) == pytest.approx(MEAN, abs=1e-12)
    assert float(tasks.task_median(x)) == pytest.approx(MEDIAN, abs=1e-12)
    assert float(tasks.task_iqm(x)) == pytest.approx(IQM, abs=1e-12)
    assert float(tasks.optimality_gap(x)) == pytest.approx(GAP, abs=1e-12)
    assert float(tasks.optimality_gap(x, 3.0)) == pytest.approx(GAP_3, abs=1e-12)
    assert float(tasks.improvement(x, y)) == pytest.approx(BETTER, abs=1e-12)
    assert tasks.profile(x, THRESHOLDS).tolist() == pytest.approx(PROFILE, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 2, 3, 5, 10, 30])
def test_aggregates_are_those_of_rliable(runs):
    metrics = pytest.importorskip("rliable.metrics", reason="pip install rliable")
    random = np.random.default_rng(runs)
    x, y = random.normal(1, 1, (2, runs, 7)).round(1)
    ours, others = by_task(x), by_task(y)
    for one, expected in (
        (tasks.task_mean(ours), metrics.aggregate_mean(x)),
        (tasks.task_median(ours), metrics.aggregate_median(x)),
        (tasks.task_iqm(ours), metrics.aggregate_iqm(x)),
        (tasks.optimality_gap(ours), metrics.aggregate_optimality_gap(x)),
        (tasks.improvement(ours, others), metrics.probability_of_improvement(x, y)),
    ):
        assert float(one) == pytest.approx(float(expected), abs=1e-12)


def test_tasks_may_have_different_numbers_of_runs():
    scores = [[1.0, 3.0], [4.0, 5.0, 9.0]]
    assert float(tasks.task_mean(scores)) == 4.0  # (2 + 6) / 2
    assert float(tasks.task_iqm(scores)) == 4.0  # 3, 4, 5
    assert float(tasks.difference(scores, [[1.0], [1.0]])) == 3.0
    assert float(tasks.improvement(scores, [[2.0], [9.0]])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_leaves_no_aggregate(odd):
    scores = [[1.0, 2.0, 3.0], [4.0, odd, 6.0]]
    for statistic in (tasks.task_mean, tasks.task_median, tasks.task_iqm):
        assert math.isnan(float(statistic(scores)))
        assert tasks.estimate(statistic, scores)[1:] == (None, None, 6)
    ours = float(tasks.optimality_gap(scores))
    assert math.isnan(ours) or odd == math.inf


def test_what_has_no_value_has_lost_to_all_that_have_one():
    lost, kept = [[math.nan, math.nan, math.nan]], [[-5.0, 0.0, -math.inf]]
    assert float(tasks.improvement(kept, lost)) == pytest.approx((2 + 0.5) / 3)
    assert float(tasks.improvement(lost, kept)) == pytest.approx(0.5 / 3)
    assert tasks.profile(lost, [-1e300]).tolist() == [0.0]


def test_intervals_draw_within_tasks():
    # Constant tasks: whatever is drawn within them, the mean over tasks is the same.
    assert tasks.estimate(tasks.task_mean, [[0.0] * 5, [8.0] * 5]) == (4, 4, 4, 10)
    # Of 16 fair values in {0, 1}: Binomial(16, 1/2) / 16 has these quantiles.
    assert tasks.estimate(tasks.task_mean, [[0.0, 1.0] * 8]) == (0.5, 0.25, 0.75, 16)


def test_two_runs_have_no_interval():
    found = tasks.estimate(tasks.improvement, [[1.0, 2.0]], [[0.0, 0.0, 0.0]])
    assert found == Estimate(1.0, None, None, 2)


def test_many_runs_are_compared_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.normal(0.5, 1, (2, 1, 30))
    at_once = tasks.estimate(tasks.improvement, x, y)
    monkeypatch.setattr(tasks, "_AT_ONCE", 900 * 300)
    in_parts = tasks.estimate(tasks.improvement, x, y)
    assert in_parts.value == at_once.value
    assert in_parts.low == pytest.approx(at_once.low, abs=0.02)


def test_the_interval_of_an_improvement_covers_the_truth():
    random = np.random.default_rng(1)
    truth = float(scipy.stats.norm.cdf(1 / math.sqrt(2)))
    inside = 0
    for _ in range(40):
        x, y = random.normal(1, 1, (1, 30)), random.normal(0, 1, (1, 30))
        found = tasks.estimate(tasks.improvement, x, y)
        assert found.low is not None and found.high is not None
        inside += found.low <= truth <= found.high
    assert inside >= 34


def test_p_values_by_permutation_are_those_of_mann_and_whitney():
    x, y = [1.0, 5.0, 7.0, 9.0, 12.0], [2.0, 3.0, 4.0, 6.0, 8.0, 10.0]
    exact = scipy.stats.mannwhitneyu(x, y, method="exact").pvalue
    assert tasks.permutation_p([x], [y]) == pytest.approx(exact, abs=0.02)
    # Of 20 groupings of three and three the two most extreme are as far apart.
    found = tasks.permutation_p([[4.0, 5.0, 6.0]], [[1.0, 2.0, 3.0]])
    assert found == pytest.approx(0.1, abs=0.01)
    tied = tasks.permutation_p([[1.0, 1.0]], [[1.0, 1.0]])
    assert tied == 1.0


def test_p_values_permute_within_tasks():
    # The tasks are far apart and the groups are not: only within a task is it seen.
    x = [[1.0, 2.0, 3.0, 4.0, 5.0], [101.0, 102.0, 103.0, 104.0, 105.0]]
    y = [[value - 10 for value in task] for task in x]
    assert tasks.permutation_p(x, y) < 0.001
    assert tasks.permutation_p([np.concatenate(x)], [np.concatenate(y)]) > 0.05


def test_holms_correction_by_hand():
    # Sorted .005 * 4, .01 * 3, .03 * 2, .04 * 1, each at least the one before.
    adjusted = tasks.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert tasks.holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert tasks.holm([]).tolist() == []


def test_a_profile_has_a_band():
    band = tasks.profile_band([[0.0, 1.0] * 8], [-1.0, 0.5, 2.0])
    assert band.value.tolist() == [1.0, 0.5, 0.0]
    assert band.low.tolist() == [1.0, 0.25, 0.0]
    assert band.high.tolist() == [1.0, 0.75, 0.0]


def test_tasks_must_match():
    with pytest.raises(ValueError, match=r"zip\(\)"):
        tasks.improvement([[1.0]], [[1.0], [2.0]])
