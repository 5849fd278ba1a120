import math

import numpy as np
import pytest
import scipy.stats

from rl_grads.analysis.statistics import (
    METHOD,
    interval,
    iqm,
    mean,
    mean_improvement,
    probability_of_improvement,
    ratio_of_means,
    spread,
    summarise,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7, 0, 5, 2, 4, 3, 6, 1], 3.5),  # Exactly 2, 3, 4, 5 of 0..7.
        ([1, 2, 3, 4, 100], 3.0),  # (0.75 * 2 + 3 + 0.75 * 4) / 2.5
        ([0, 0, 6, 9, 9, 9], 6.5),  # (0.5 * 0 + 6 + 9 + 0.5 * 9) / 3
        ([0, 1, 10], 7 / 3),  # (0.25 * 0 + 1 + 0.25 * 10) / 1.5
        ([1, 4], 2.5),
        ([5], 5.0),
    ],
)
def test_iqm_by_hand(values, expected):
    assert float(iqm(values)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("n", [4, 8, 12, 40])
def test_iqm_is_scipys_trimmed_mean_where_quarters_are_whole(n):
    values = np.random.default_rng(n).normal(size=(3, n))
    expected = scipy.stats.trim_mean(values, 0.25, axis=-1)
    np.testing.assert_allclose(iqm(values), expected, rtol=1e-14)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("statistic", [mean, iqm])
def test_a_nonfinite_value_leaves_no_statistic_in_its_row_alone(statistic, odd):
    values = [[1, 2, 3, 4], [1, 2, odd, 4]]
    np.testing.assert_array_equal(statistic(values), [2.5, math.nan])


@pytest.mark.parametrize("statistic", [mean, iqm])
def test_an_empty_set_is_refused(statistic):
    with pytest.raises(ValueError, match=r"shape \(0,\): expected at least one"):
        statistic([])


def test_the_interval_of_two_kinds_of_values_has_binomial_ends():
    # The mean of 20 fair draws from {0, 1} is Binomial(20, 0.5) / 20, whose 2.5 % and
    # 97.5 % quantiles are 6 / 20 and 14 / 20.
    result = interval([0, 1] * 10, mean, resamples=20_000)
    assert result == (0.3, 0.7, METHOD, 20, 0.95)


def test_a_higher_confidence_is_wider_and_equal_calls_are_equal():
    values = np.random.default_rng(1).normal(size=10)
    narrow, wide = interval(values, iqm, 0.5), interval(values, iqm, 0.99)
    assert wide.low < narrow.low < iqm(values) < narrow.high < wide.high
    assert interval(values, iqm, 0.5) == narrow
    assert interval(values, iqm, 0.5, seed=1) != narrow


def test_equal_values_have_an_interval_of_no_width():
    assert interval([500.0] * 10, iqm)[:2] == (500.0, 500.0)


@pytest.mark.parametrize("values", [[1], [1, 2], [1, 2, 3, math.nan]])
def test_few_or_nonfinite_values_have_no_interval(values):
    expected = (None, None, METHOD, len(values), 0.95)
    assert interval(values, mean) == expected


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_outside_its_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1\)"):
        interval([1, 2, 3], mean, confidence)


def test_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\): expected \[members\]"):
        interval(np.zeros((2, 2)), mean)


def test_the_summary_has_both_statistics_with_their_own_intervals():
    result = summarise(np.asarray([0, 1, 2, 3, 4, 5, 6, 99], np.float32))
    assert result["mean"]["value"] == 15.0
    assert result["iqm"]["value"] == 3.5
    assert result["members"] == [0, 1, 2, 3, 4, 5, 6, 99]
    assert result["non_finite"] == 0
    for name in ("mean", "iqm"):
        entry = result[name]
        assert entry["low"] < entry["value"] < entry["high"]
        assert (entry["method"], entry["n"], entry["confidence"]) == (METHOD, 8, 0.95)
    assert result["mean"]["high"] > result["iqm"]["high"]


def test_the_summary_keeps_and_counts_nonfinite_members():
    result = summarise([1.0, math.nan, 3.0, math.inf])
    assert result["mean"]["value"] is None
    assert result["iqm"]["value"] is None
    np.testing.assert_array_equal(result["members"], [1, math.nan, 3, math.inf])
    assert result["non_finite"] == 2


def test_probability_of_improvement_counts_pairs():
    values, baseline = [1.0, 2.0, 3.0], [0.0, 2.0, 5.0]
    # 1 beats one of three; 2 beats one and ties one; 3 beats two.
    assert float(mean_improvement(values, baseline)) == pytest.approx((1 + 1.5 + 2) / 9)


def test_probability_of_improvement_has_an_interval_from_three_values_on():
    found = probability_of_improvement([1, 2, 3], [0, 2, 5])
    assert found.low is not None and found.high is not None
    assert 0 <= found.low < 4.5 / 9 < found.high <= 1
    assert probability_of_improvement([1, 2], [0, 1, 2]).low is None
    with pytest.raises(ValueError, match="expected"):
        probability_of_improvement([[1, 2]], [0, 1])


def test_a_ratio_of_means_lies_in_its_interval():
    random = np.random.default_rng(0)
    values, baseline = random.normal(6, 1, 40), random.normal(8, 1, 50)
    found = ratio_of_means(values, baseline)
    assert found.low is not None and found.high is not None
    # The delta method: 0.75 times the root of both relative variances.
    spread = 0.75 * math.hypot(1 / 6 / math.sqrt(40), 1 / 8 / math.sqrt(50))
    assert found.low < values.mean() / baseline.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.2)


def test_a_ratio_of_few_or_non_finite_runs_has_no_interval():
    assert ratio_of_means([1.0, 2.0], [1.0, 2.0, 3.0]).low is None
    assert ratio_of_means([1.0, 2.0, np.nan], [1.0, 2.0, 3.0]).low is None
    with pytest.raises(ValueError, match=r"expected \[n\] and \[m\]"):
        ratio_of_means([[1.0]], [1.0])


@pytest.mark.parametrize("n", [3, 10, 262])
def test_the_spread_of_many_sets_is_that_of_each(n):
    values = np.random.default_rng(n).normal(size=(4, n)) * [[1], [10], [100], [1e6]]
    found = spread(values)
    np.testing.assert_array_equal(found[""], mean(values))
    np.testing.assert_array_equal(found["iqm"], iqm(values))
    ends = [interval(row, mean) for row in values]
    np.testing.assert_allclose(found["low"], [end.low for end in ends], rtol=1e-9)
    np.testing.assert_allclose(found["high"], [end.high for end in ends], rtol=1e-9)


def test_the_spread_of_many_values_has_fewer_resamples():
    values = np.random.default_rng(0).normal(size=(1, 5000))
    found, whole = spread(values), interval(values[0], mean)
    assert found["low"][0] == pytest.approx(whole.low, abs=0.01)
    assert found["high"][0] == pytest.approx(whole.high, abs=0.01)
    assert list(spread(np.zeros((1, 2**15 + 1)))) == ["", "iqm"]


def test_the_spread_of_a_set_with_a_nonfinite_value_is_nan_in_it_alone():
    found = spread([[0, 1, 2, 3], [0, 1, math.inf, 3]])
    for name, value in {"": 1.5, "iqm": 1.5, "low": 0.5, "high": 2.5}.items():
        np.testing.assert_array_equal(found[name], [value, math.nan])
