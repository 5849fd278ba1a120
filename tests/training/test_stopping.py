"""An interrupt of `rg.train` returns what there is; pieces add up to a stretch."""

import os
import signal
import threading

import numpy as np
import pytest

import rl_grads as rg
from rl_grads.training import run
from rl_grads.training.engine import Given
from rl_grads.training.stopping import on_interrupt


@pytest.fixture
def interrupting(monkeypatch):
    """Interrupt this process behind the given piece of training."""

    def arrange(number, times=1):
        piece, count = run._piece, iter(range(1, 10_000))

        def counted(*arguments):
            result = piece(*arguments)
            if next(count) == number:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
            return result

        monkeypatch.setattr(run, "_piece", counted)

    return arrange


def test_what_there_is_is_returned(tiny, interrupting, tmp_path):
    members = rg.population(tiny(), seeds=range(2))
    whole = rg.train(members=members)
    interrupting(number=8)
    result = rg.train(members=members, run_dir=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert result.status == "interrupted"
    assert 0 < len(result.steps) < len(whole.steps)
    for name, values in result.metrics.items():
        expected = whole.metrics[name][:, : len(result.steps)]
        np.testing.assert_array_equal(values, expected, name)
    assert not (tmp_path / "run" / "summary.json").exists()
    resume = {"resume": str(tmp_path / "run")}
    again = rg.train(
        members=rg.population(rg.replace(tiny(), resume), seeds=range(2)),
        run_dir=tmp_path / "run",
    )
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], values, name)


def test_populations_behind_it_are_not_begun(tiny, interrupting):
    sweep = {"network.hidden": [(8,), (4,)]}
    interrupting(number=3)
    result = rg.train(members=rg.population(tiny(), seeds=range(2), sweep=sweep))
    assert [m.config.network.hidden for m in result.members] == [(8,), (8,)]


def test_a_second_one_ends_at_once(tiny, interrupting):
    interrupting(number=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        rg.train(members=rg.population(tiny(), seeds=range(2)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_and_handlers_are_left_alone():
    found = []

    def work():
        with on_interrupt() as halted:
            found.append((halted(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with on_interrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


class Steps(run.Pace):
    """Pieces of a given size."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def took(self, iterations, seconds):
        """Learn nothing."""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stretch_in_pieces_is_the_same_stretch(tiny, size):
    plan = run.plan_for(Given(None, None), rg.population(tiny(), seeds=range(2)))
    stop = run.Stop(90, evaluate=False, save=False)
    _, whole = run.advance(plan, run.start(plan), stop)
    snapshot, row = run.advance(plan, run.start(plan), stop, pace=Steps(size))
    assert (snapshot.iteration, snapshot.logged) == (90, 90)
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(row.metrics[name], values, name)


def test_the_next_stretch_begins_anew(tiny):
    plan = run.plan_for(Given(None, None), rg.population(tiny(), seeds=range(1)))
    pace, snapshot, counts = Steps(9), run.start(plan), []
    for iteration in (50, 90):
        stop = run.Stop(iteration, evaluate=False, save=False)
        snapshot, _ = run.advance(plan, snapshot, stop, pace=pace)
        counts.append(int(snapshot.members.stretch.iterations[0]))
    assert counts == [50 - run.warm_up_iterations(plan.config), 40]


def test_the_size_of_pieces_follows_the_clock():
    pace = run.Pace()
    sizes = []
    for seconds in (9.0, 1e-3, 4e-3, 16e-3, 0.5, 10.0):
        pace.took(pace.size, seconds)
        sizes.append(pace.size)
    assert sizes == [1, 4, 16, 64, 128, 12]
