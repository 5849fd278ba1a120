"""What mirrors show: a run per member, or one of the whole point."""

import numpy as np
import pytest

from rl_grads.analysis.statistics import spread
from rl_grads.tracking.schema import Tracking
from rl_grads.tracking.shown import Shown, config, shown, values

DIFFERS = {"optimizer.learning_rate": "lr=3e-4", "replay": "replay=per"}


def names(run):
    return [one.name for one in shown(run)]


@pytest.mark.parametrize(
    ("runs", "company", "count"),
    [
        ("auto", 0, 3),
        ("auto", 20, 3),
        ("auto", 21, 1),
        ("member", 2000, 3),
        ("point", 0, 1),
    ],
)
def test_how_many_runs_there_are(make_run, runs, company, count):
    assert len(shown(make_run(runs=runs)._replace(company=company))) == count


def test_auto_counts_its_own_members_where_nothing_is_said_of_others(make_run):
    run = make_run()
    many = run._replace(seeds=tuple(range(21)), configs=run.configs[:1] * 21)
    assert shown(many) == [Shown("walk/today", None)]


def test_a_single_run_has_its_name_before_the_seed(make_run):
    assert names(make_run()) == [f"walk/today · seed {k}" for k in (40, 41, 42)]


def test_a_point_of_a_sweep_is_called_by_what_differs(make_run):
    run = make_run()._replace(differs=DIFFERS, seeds=(1, 2, 3))
    assert names(run)[1] == "lr=3e-4 · replay=per · seed 2"
    point = run._replace(settings=Tracking(runs="point"))
    assert names(point) == ["lr=3e-4 · replay=per"]


def test_a_swept_seed_is_said_once(make_run):
    run = make_run()._replace(differs={"seed": "seed=40"})
    assert names(run)[0] == "walk/today · seed 40"
    both = run._replace(differs={"agent.discount": "discount=0.9", "seed": "seed=40"})
    assert names(both)[0] == "discount=0.9 · seed 40"
    point = both._replace(settings=Tracking(runs="point"))
    assert names(point) == ["discount=0.9 · seed=40"]


def test_members_with_one_seed_are_numbered(make_run):
    run = make_run()._replace(seeds=(7, 7, 8), differs={"a": "a=1"})
    assert names(run) == [
        "a=1 · member 0 · seed 7",
        "a=1 · member 1 · seed 7",
        "a=1 · member 2 · seed 8",
    ]


def rows(**metrics):
    """The rows of one step from `metric=[of each member]`, its slash an underscore."""
    columns = {name.replace("_", "/"): column for name, column in metrics.items()}
    count = len(next(iter(columns.values()), ()))
    return [
        {"step": 10, "member": k, "seed": k, **{n: c[k] for n, c in columns.items()}}
        for k in range(count)
    ]


POINT = Shown("", None)


def test_a_member_shows_its_own_row(make_run):
    made = rows(loss=[1.0, 2.0], evaluation_return=[3.0, 4.0])
    found = values(make_run(), Shown("", 1), made)
    assert found == {"loss": 2.0, "evaluation/return": 4.0}


def test_a_point_shows_mean_iqm_and_interval(make_run):
    run = make_run()._replace(over_members=spread)
    made = rows(evaluation_return=[0.0, 1.0, 2.0, 9.0])
    found = values(run, POINT, made)
    assert found["evaluation/return"] == 3.0
    assert found["iqm/evaluation/return"] == 1.5
    assert 0.0 < found["low/evaluation/return"] < 3.0 < found["high/evaluation/return"]
    assert len(found) == 4


def test_statistics_that_are_not_known_are_left_out(make_run):
    run = make_run()._replace(over_members=spread)
    found = values(run, POINT, rows(loss=[1.0, float("nan"), 2.0, 3.0]))
    np.testing.assert_equal(found, {"loss": float("nan")})
    assert values(run, POINT, rows(loss=[1.0, 2.0])) == {"loss": 1.5}


def test_a_row_without_metrics_is_shown_as_one(make_run):
    empty = [{"step": 0, "member": k, "seed": k} for k in range(3)]
    assert values(make_run()._replace(over_members=spread), POINT, empty) == {}


def test_the_config_of_a_member_and_of_a_point(make_run):
    run = make_run()._replace(provenance={"host": "here"})
    of_point, of_member = config(run, POINT), config(run, Shown("", 1))
    assert of_point["optimizer"] == {"momentum": [0.1, 0.2, 0.3]}
    assert (of_point["members"], "member" in of_point) == (3, False)
    assert of_member["optimizer"] == {"momentum": 0.2}
    assert (of_member["seed"], of_member["member"]) == (41, 1)
    for one in (of_point, of_member):
        assert one["agent"] == {"discount": 0.99}
        assert one["provenance"] == {"host": "here"}
