"""Studies: what a sweep came to, and which of its settings is taken."""

import numpy as np
import pytest

import rl_grads as rg
from rl_grads.studies import tuning
from rl_grads.studies.tuning import RETURN, Outcome

RATE, DISCOUNT = "optimizer.learning_rate", "agent.discount"
NAN, RMSVE = np.nan, "evaluation/rmsve"


def outcome(rate, discount, *returns):
    """Two evaluations of one seed, or as many as there are pairs."""
    config = rg.replace(rg.Config(), {RATE: rate, DISCOUNT: discount})
    rows = np.array([[NAN, first, NAN, last] for first, last in returns])
    return Outcome(config, np.array([5, 10, 15, 20]), {RETURN: rows})


def test_a_curve_leaves_out_rows_without_a_measurement():
    steps, values = outcome(0.1, 0.9, (1.0, 3.0), (5.0, 9.0)).curve()
    assert steps.tolist() == [10, 20]
    assert values.tolist() == [[1.0, 3.0], [5.0, 9.0]]


def test_an_area_is_the_mean_over_time():
    assert outcome(0.1, 0.9, (1.0, 3.0), (5.0, 9.0)).areas.tolist() == [2.0, 7.0]


def test_the_best_is_that_of_the_highest_mean_over_all_other_paths():
    tried = [
        outcome(0.1, 0.9, (1.0, 1.0), (2.0, 2.0)),  # 1.5
        outcome(0.2, 0.9, (2.0, 2.0), (2.0, 2.0)),  # 2.0
        outcome(0.1, 0.8, (9.0, 9.0), (0.0, 0.0)),  # 4.5
        outcome(0.2, 0.8, (3.0, 3.0), (4.0, 4.0)),  # 3.5
    ]
    assert tuning.best(tried, [RATE, DISCOUNT]) == {RATE: 0.1, DISCOUNT: 0.8}
    assert tuning.best(tried, [RATE]) == {RATE: 0.1}  # 3.0 against 2.75
    assert tuning.best(tried[:2], [RATE]) == {RATE: 0.2}


def test_what_is_not_finite_is_never_the_best():
    tried = [outcome(0.1, 0.9, (np.inf, 1.0)), outcome(0.2, 0.9, (-5.0, -5.0))]
    assert tuning.best(tried, [RATE]) == {RATE: 0.2}


def test_the_best_of_an_error_is_the_lowest():
    errors = [(0.1, 3.0), (0.2, 1.0), (0.3, np.inf), (0.4, 2.0)]
    tried = [
        outcome(rate, 0.9)._replace(
            metrics={"evaluation/rmsve": np.full((2, 4), error)}
        )
        for rate, error in errors
    ]
    assert tuning.best(tried, [RATE], RMSVE) == {RATE: 0.2}
    with pytest.raises(ValueError, match="metric='gradient/norm': expected one that s"):
        tuning.best(tried, [RATE], "gradient/norm")


@pytest.mark.slow
def test_a_sweep_is_given_back_setting_by_setting():
    settings = {
        "network.hidden": (16,),
        "replay.capacity": 120,
        "training.total_steps": 120,
        "training.warmup_steps": 20,
        "training.batch_size": 8,
        "evaluation.interval": 60,
        "evaluation.episodes": 2,
        "evaluation.max_steps": 50,
        "tracking.interval": 60,
    }
    config = rg.replace(rg.Config(), settings)
    found = tuning.run(config, (3, 5), {RATE: [0.0, 0.01]})
    assert [one.config.optimizer.learning_rate for one in found] == [0.0, 0.01]
    members = rg.population(rg.replace(config, {RATE: 0.01}), (3, 5))
    alone = rg.train(members=members)
    for name, rows in alone.metrics.items():
        np.testing.assert_allclose(found[1].metrics[name], rows, rtol=1e-4, atol=1e-5)
    assert found[1].steps.tolist() == alone.steps.tolist()
