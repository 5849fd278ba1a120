"""Comparisons: pairs, settings in common, units, correction, words."""

import math

import numpy as np
import pytest

from rl_grads import results
from rl_grads.config import ConfigError
from rl_grads.results import comparison, sentences
from rl_grads.results.comparison import AREA, FINAL
from tests.results.made_runs import write_run

METRIC = "evaluation/return"


def write(place, values, metric=METRIC, **own):
    """A point with a row of zeros before its final values."""
    rows = {metric: [[0.0] * len(values), values]}
    return write_run(place, rows, seeds=range(len(values)), **own)


def made(top, key="agent", baseline=None, metric=METRIC):
    return comparison.make(results.load(top), metric, key, baseline)


def pairs(found):
    return [(pair.value, pair.other) for pair in found.pairs]


@pytest.fixture
def three(tmp_path):
    """Three agents with ten runs: c is above b, and both are far above a."""
    for k, (name, low) in enumerate({"a": 0, "b": 100, "c": 104}.items()):
        write(tmp_path / str(k), [low + x for x in range(10)], agent=name)
    return tmp_path


def test_a_pair_has_probability_difference_and_p(three):
    found = made(three)
    assert pairs(found) == [("b", "a"), ("c", "a"), ("c", "b")]
    b_a, _, c_b = found.pairs
    assert (b_a.n, b_a.settings) == ((10, 10), 1)
    final, area = b_a.effects[FINAL], b_a.effects[AREA]
    assert final.improvement == (1, 1, 1, 10)
    assert final.difference is not None and area.difference is not None
    assert (final.difference.value, area.difference.value) == (100, 50)
    wins = sum((x + 4 > y) + 0.5 * (x + 4 == y) for x in range(10) for y in range(10))
    assert c_b.effects[FINAL].improvement.value == pytest.approx(wins / 100)
    # Chance alone does the first in 2 of 184,756 groupings.
    assert final.p < 0.002
    assert 0.01 < c_b.effects[FINAL].p < 0.1


def test_against_a_baseline(three):
    assert pairs(made(three, baseline="b")) == [("a", "b"), ("c", "b")]
    for k in range(3, 6):
        write(three / str(k), [1.0] * 3, agent=f"d{k}")
    assert pairs(made(three))[:2] == [("b", "a"), ("c", "a")]
    assert len(made(three).pairs) == 5


def test_of_an_error_the_lower_wins(tmp_path):
    for k, name in enumerate("ab"):
        write(tmp_path / name, [k + x / 9 for x in range(5)], "loss/mine", agent=name)
    (pair,) = made(tmp_path, metric="loss/mine").pairs
    effect = pair.effects[FINAL]
    assert effect.improvement.value == 0.0
    assert effect.difference is not None
    assert effect.difference.value == pytest.approx(1.0)


def test_like_is_compared_with_like(tmp_path):
    """At each rate a wins, though pooled over rates it would not."""
    for k, (rate, base) in enumerate([(0.1, 0), (0.2, 100), (0.3, 50)]):
        for name, more in (("a", 10), ("b", 0)):
            if (name, rate) != ("b", 0.3):
                values = [base + more + x for x in range(6)]
                own = {"agent": name, "optimizer__learning_rate": rate}
                write(tmp_path / f"{k}{name}", values, **own)
    (pair,) = made(tmp_path).pairs
    assert (pair.value, pair.other, pair.settings, pair.n) == ("b", "a", 2, (12, 12))
    assert pair.effects[FINAL].improvement.value == 0.0
    difference = pair.effects[FINAL].difference
    assert difference is not None and difference.value == -10
    assert pair.effects[FINAL].p < 0.01


def test_over_environments_differences_are_of_normalised_scores(tmp_path):
    scores = {"gymnax/CartPole-v1": (500, 22.2), "gymnax/MountainCar-v0": (-155, -200)}
    for k, (env, (a, b)) in enumerate(scores.items()):
        write(tmp_path / f"{k}a", [a] * 3, agent="a", env__id=env)
        write(tmp_path / f"{k}b", [b] * 3, agent="b", env__id=env)
    found = made(tmp_path)
    assert found.normalised
    difference = found.pairs[0].effects[FINAL].difference
    assert difference is not None and difference.value == pytest.approx(-0.75)
    for name in "ab":
        write(tmp_path / f"2{name}", [1.0] * 3, agent=name, env__id="chain/baird")
    assert made(tmp_path).pairs[0].effects[FINAL].difference is None
    assert "-" in "\n".join(sentences.told(made(tmp_path)))


def test_runs_that_diverged_count_as_the_worst(tmp_path):
    never = {METRIC: [[math.nan, 0.0, 0.0], [math.nan, 2.0, 3.0]]}
    write_run(tmp_path / "a", never, seeds=range(3), agent="a", status="diverged")
    write(tmp_path / "b", [1.0, 1.0, 1.0], agent="b")
    (pair,) = made(tmp_path).pairs
    assert pair.effects[FINAL].improvement.value == pytest.approx(1 / 3)
    assert pair.effects[FINAL].difference is not None
    assert math.isnan(pair.effects[FINAL].difference.value)


def test_a_metric_that_one_side_has_not_logged(tmp_path):
    write(tmp_path / "a", [1.0] * 3, "own", agent="a")
    write(tmp_path / "b", [1.0] * 3, agent="b")
    (pair,) = made(tmp_path, metric="own").pairs
    assert pair.effects[AREA].improvement.value == 0.0


REFUSED = {
    "an unknown key": (("agnt",), r"--by=agnt: expected a key of .* mean 'agent'\?"),
    "one value": (("env.id",), "--by=env.id: expected a key that differs, every point"),
    "a value": (("agent", "d"), r"--baseline=d: expected a value of agent \(a, b, c\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(three, case):
    arguments, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        made(three, *arguments)


def test_nothing_in_common_is_refused(tmp_path):
    write(tmp_path / "0", [1.0], agent="a", env__id="x")
    write(tmp_path / "1", [1.0], agent="b", env__id="y")
    with pytest.raises(ConfigError, match="b and a have runs at no setting in common"):
        made(tmp_path)


def test_words_are_literal(three):
    assert list(sentences.told(made(three, baseline="b"))) == [
        "evaluation/return (higher is better) by agent; 95 % bootstrap intervals; p by",
        "permutation, Holm over 2 comparisons",
        "",
        "a against b",
        "                  probability  difference of means     p",
        "final value       0 (0 to 0)   -100 (-102.5 to -97.6)  .0006",
        "area under curve  0 (0 to 0)   -50 (-51.25 to -48.8)   .0006",
        "b beats a with probability 1 (1 to 1), n = 10 and 10.",
        "",
        "c against b",
        "                  probability       difference of means  p",
        "final value       .82 (.62 to .96)  4 (1.5 to 6.4)       .02",
        "area under curve  .82 (.62 to .96)  2 (0.75 to 3.2)      .02",
        "c beats b with probability .82 (.62 to .96), n = 10 and 10.",
    ]


def test_words_of_settings_and_of_a_metric_without_a_good_end(tmp_path):
    for k, value in enumerate((0.1, 0.2)):
        for name in "ab":
            own = {"agent": name, "replay__exponent": value}
            write(tmp_path / f"{k}{name}", [1.0] * 3, "training/length", **own)
    lines = list(sentences.told(made(tmp_path, metric="training/length")))
    assert " ".join(lines[:2]) == (
        "training/length (neither end is better) by agent; like with like at 2 "
        "settings of exponent; 95 % bootstrap intervals; p by permutation"
    )
    assert " ".join(lines[-2:]) == (
        "b is above a with probability .50 (.50 to .50), n = 6 and 6: chance alone "
        "may do that (p = 1)."
    )


def test_long_names_and_small_numbers_fit(tmp_path):
    random = np.random.default_rng(0)
    for k in range(2):
        values = (random.normal(size=4) * 1e-7).tolist()
        write(tmp_path / str(k), values, agent=f"{k}" * 90)
    lines = list(sentences.told(made(tmp_path)))
    assert max(map(len, lines)) <= 80
    assert "e-0" in lines[5]
