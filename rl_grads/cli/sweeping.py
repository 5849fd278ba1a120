"""A sweep: its points in populations, each one job that trains one program.

Points whose configs have one structure are stacked and trained together, whatever
launcher runs the jobs. A point's files are those of the same point run alone.
"""

import contextlib
import logging
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig

from rl_grads.cli import compose, places, population_job, sweep_folder, sweep_plan
from rl_grads.cli.errors import PointFailed, tell
from rl_grads.cli.hydra_private import Callbacks
from rl_grads.cli.job import COMMAND, Job
from rl_grads.cli.population_job import Population
from rl_grads.cli.sweep_plan import Plan
from rl_grads.config import ConfigError
from rl_grads.tracking import folder
from rl_grads.tracking import sweep as sweeps
from rl_grads.tracking.sweep import Entry, Sweep

_PATIENCE = 60.0  # Seconds in which another process must have laid its points out.
_PAUSE = 0.5


def train(job: Job, request: compose.Request, home: pathlib.Path) -> None:
    """Train every point of a sweep that its folder does not have.

    Args:
        job: What its jobs must know.
        request: The command line.
        home: The sweep's folder.

    Raises:
        ConfigError: The folder holds another sweep, or points that do not fit.
        PointFailed: Some points have failed, and have told why.
    """
    with compose.composer(request) as composed, _none_empty(home):
        laid = _lay_out(job, request, home, composed)
        run(job, laid.plan, laid.master)


def plan(job: Job, request: compose.Request, home: pathlib.Path) -> None:
    """Lay a sweep out and print a command for each of its populations.

    Each can be given to a machine of its own, any number of times: a population that is
    done is not trained again, and one in which somebody works is left alone.

    Raises:
        ConfigError: As `train`.
    """
    with compose.composer(request) as composed, _none_empty(home):
        laid = _lay_out(job, request, home, composed)
    again = shlex.join(_again(job, home))
    for number in range(len(laid.plan.sweep.populations())):
        print(f"{again} sweep.population={number}")


@contextlib.contextmanager
def _none_empty(home: pathlib.Path) -> Iterator[None]:
    """Leave no folder behind in which nothing has been written, nor those above it."""
    above = [] if home.is_absolute() else home.parents[:-1]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for place in (home, *above):
                place.rmdir()


class _LaidOut(NamedTuple):
    """A sweep whose points have their folders, and its composed config."""

    plan: Plan
    master: DictConfig


def _lay_out(
    job: Job, request: compose.Request, home: pathlib.Path, composed: compose.Compose
) -> _LaidOut:
    """Give every point its number and its folder, beside other processes."""
    own = f"{places.SWEEP}={compose.quoted(str(home))}"
    overrides, again = request.flags.overrides, _again(job, home)
    master = composed([*overrides, own], True)
    deadline = time.monotonic() + _PATIENCE
    while True:
        going_on = job.going_on and sweeps.is_sweep(home)
        before = _still_there(home, sweeps.read(home)) if going_on else None
        found = sweep_plan.make(master, overrides, again, before)
        if before is not None and before == found.sweep:
            return _LaidOut(found, master)  # Nothing is to be written.
        try:
            with folder.claimed(home, going_on, master.run.overwrite):
                sweep_folder.write_points(home, found.points)
                sweeps.write(home, found.sweep)
            return _LaidOut(found, master)
        except ConfigError:  # Another process lays the same sweep out.
            if not job.going_on or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _still_there(home: pathlib.Path, sweep: Sweep) -> Sweep:
    """A sweep whose points that somebody has removed are to be trained once more.

    They leave a population that is done; one that is not is continued as a whole.
    """
    done = {
        entry.population
        for entry in sweep.entries
        if (home / str(entry.number) / folder.SUMMARY).exists()
    }
    entries = tuple(
        entry._replace(population=None)
        if entry.population in done and not (home / str(entry.number)).exists()
        else entry
        for entry in sweep.entries
    )
    return sweep._replace(entries=entries)


def _again(job: Job, home: pathlib.Path) -> list[str]:
    """The command that goes on with a sweep."""
    named = ("run.id=", "resume=", "sweep.population=")
    own = [word for word in job.command if not word.startswith(named)]
    name = "/".join(home.parts[home.parts.index("sweeps") + 1 :])
    return [*own, f"run.id={name}", "resume=auto"]


def run(job: Job, plan: Plan, master: DictConfig) -> None:
    """Train the populations of a plan by the launcher that the config names.

    Raises:
        PointFailed: Some points have failed; each has told why, the others are done.
    """
    assert job.sweep is not None
    home = pathlib.Path(job.sweep)
    refused = [e for e in plan.sweep.entries if e.refused and e.number in plan.points]
    for entry in refused:
        _tell_point(entry)
    status = 2 if refused else 0
    if plan.populations:
        outcomes = _launch(job, plan, master)
        status = max((o.status for o in outcomes), key=_severity, default=0) or status
    print(sweep_folder.table(home, plan.sweep))
    if status:
        raise PointFailed(status)


def _severity(status: int) -> int:
    """A crash is worse than what was refused."""
    return (0, 2, 1).index(status)


def _tell_point(entry: Entry) -> None:
    named = f"point {entry.number} ({' '.join(entry.overrides)})"
    print(f"{COMMAND}: {named}: {entry.refused}", file=sys.stderr)


def _launch(job: Job, plan: Plan, master: DictConfig) -> list[population_job.Outcome]:
    """Hand every population to the launcher as one job."""
    largest = max(p.members() for p in plan.populations.values())
    job = job._replace(again=shlex.join(plan.sweep.command))
    task = population_job.Task(
        job, plan.populations, largest, _at_once(master, len(plan.populations))
    )
    loader = GlobalHydra.instance().config_loader()
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
        task_function=task,
        config=master,
    )
    jobs = [list(_overrides(population)) for population in plan.populations.values()]
    with _quiet():
        returns = launcher.launch(jobs, initial_job_idx=0)
    return [
        _outcome(done, population)
        for done, population in zip(returns, plan.populations.values(), strict=True)
    ]


def _overrides(population: Population) -> Iterator[str]:
    """What a launcher composes for a job: its first point, and where it works."""
    yield from population.points[0].overrides
    yield f"hydra.sweep.subdir={compose.quoted(population.name)}"
    yield "hydra.output_subdir=null"  # Every point has its own already.


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Launchers name each job by its first point alone."""
    loggers = [logging.getLogger(name) for name in ("hydra", "hydra_plugins")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _at_once(master: DictConfig, jobs: int) -> int:
    """How many jobs the launcher runs on this machine at a time."""
    asked = master.hydra.launcher.get("n_jobs")
    if asked is None:
        return 1
    from rl_grads.training.devices import available_cores

    most = asked if asked > 0 else available_cores() + 1 + asked
    return max(1, min(most, jobs))


def _outcome(done: JobReturn, population: Population) -> population_job.Outcome:
    """What a job has returned; tells what one in another process could not tell."""
    if done.status == JobStatus.COMPLETED:
        outcome: population_job.Outcome = done.return_value
        if outcome.process != os.getpid():
            for line in outcome.told:
                print(line, file=sys.stderr)
        return outcome
    error = done._return_value
    words = " ".join(f"{type(error).__name__}: {error}".split())
    message = f"{COMMAND}: {population.label()}: {words}"
    tell(message, full=False)
    return population_job.Outcome(1, (message,), os.getpid())
