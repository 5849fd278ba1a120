"""`rl-grads train`: one population per point, its files and its trackers."""

import contextlib
import functools
import logging
import os
import pathlib
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rl_grads.cli import signals
from rl_grads.cli.job import COMMAND, Job
from rl_grads.cli.showing import as_text, failing, tell, timing, written
from rl_grads.config import ConfigError
from rl_grads.training.schema import Config
from rl_grads.typing import Section

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from rl_grads.cli import compose
    from rl_grads.training import provenance
    from rl_grads.training.population import Member


def main(argv: Sequence[str], planned: bool = False) -> int:
    """Train what the arguments say; returns the exit status.

    Args:
        argv: Arguments after `rl-grads train`.
        planned: Lay a sweep out and print its commands, and train nothing.
    """
    with signals.watching() as asked:
        try:
            from rl_grads.cli import errors

            call = functools.partial(_main, argv, planned, asked)
            return errors.guard(COMMAND, argv, call)
        except signals.Interrupted as interrupted:
            return interrupted.args[0]


def _main(
    argv: Sequence[str], planned: bool, asked: signals.Signals, tracebacks: bool
) -> None:
    from rl_grads.cli import compose, help_page, plugins, resume

    names, rest = plugins.split(argv)
    table, rest = _table(rest)
    plugins.load(names)
    compose.store_schemas()
    if {"-h", "--help"} & set(rest):
        print(help_page.text())
        return
    request = compose.read([compose.spell(a) for a in rest])
    told = ("rl-grads", "train", *argv)
    job = Job(told, names, request.flags.config_dir, tracebacks, table, planned)
    if request.multirun or not request.runs:
        _sweep(job, request, asked)
    elif resume.asked(request.flags.overrides) is not None:
        _resume(job, request, asked)
    else:
        _train(job, request, asked)


def _fits(config: Config) -> None:
    """Refuse a config whose parts do not fit each other."""
    from rl_grads.training import backend

    backend.start(config)
    from rl_grads.training.checks.door import check
    from rl_grads.training.engine import Given

    check(config, Given(None, None))


# --------------------------------------------------------------------------- one run


def _train(job: Job, request: "compose.Request", asked: signals.Signals) -> None:
    """A run from its start, in a folder of its own."""
    from rl_grads.cli import compose, door, places
    from rl_grads.tracking import folder

    whole = door.check(request, _fits)
    assert whole is not None
    home = places.take(whole, places.RUN)
    failures: list[Exception] = []
    task = functools.partial(_task, job, asked, failures)
    with folder.claimed(home, False, whole.run.overwrite):
        own = f"{places.RUN}={compose.quoted(str(home))}"
        compose.run(task, [*request.argv, own], COMMAND)
    for failure in failures:
        raise failure


def _task(
    job: Job, asked: signals.Signals, failures: list[Exception], composed: "DictConfig"
) -> None:
    """Train what Hydra composed; raised here, Hydra would add a line of its own."""
    from rl_grads.cli import errors
    from rl_grads.tracking.files import CannotWrite

    try:
        _point(job, asked, composed)
    except (*errors.KNOWN, CannotWrite, errors.PointFailed) as error:
        failures.append(error)


def _resume(job: Job, request: "compose.Request", asked: signals.Signals) -> None:
    """A run that goes on, in its own folder or as a new one."""
    from rl_grads.cli import resume
    from rl_grads.cli.population_job import Together, train_group
    from rl_grads.tracking import folder

    found = resume.read(request)
    if found is None:
        _train(job, resume.without(request), asked)
        return
    _fits(found.config)
    from rl_grads.training.continuing import keep_schedules
    from rl_grads.training.population import Member
    from rl_grads.training.train import claimed

    job = job.of_sweep(found.home.parent)
    origin = job.origin(found.choices, found.unresolved)
    if found.whole is not None:
        members = keep_schedules(found.whole.members)
        together = Together(members, found.whole.group, origin, going_on=True)
        with folder.claimed(found.home, True, False), _logged(found.home):
            train_group(job, asked, together)
        return
    members = keep_schedules([Member(found.config, seed) for seed in found.seeds])
    with claimed(found.home, found.config), _logged(found.home):
        _show(job, asked, members, found.home, origin)


@contextlib.contextmanager
def _logged(home: pathlib.Path) -> Iterator[None]:
    """What is said is also written to the run's log, as Hydra does it for new runs."""
    root, form = logging.getLogger(), "[%(asctime)s][%(name)s][%(levelname)s] - "
    file = logging.FileHandler(home / "train.log")
    file.setFormatter(logging.Formatter(form + "%(message)s"))
    root.addHandler(file)
    try:
        yield
    finally:
        root.removeHandler(file)
        file.close()


# ------------------------------------------------------------------------------ a sweep


def _sweep(job: Job, request: "compose.Request", asked: signals.Signals) -> None:
    """Every point of a sweep; also what only shows something and trains nothing."""
    from rl_grads.cli import compose, door, places, resume, sweeping
    from rl_grads.tracking import folder

    whole = door.check(request, _fits)
    resolve = ["--resolve"] if request.flags.cfg == "job" else []
    if whole is None or not request.runs:
        task = functools.partial(_swept, job, asked)
        compose.run(task, [*resolve, *request.argv], COMMAND)
        return
    ours = whole.hydra.runtime.choices["hydra/sweeper"] == compose.POPULATION
    home = places.take(whole, places.SWEEP)
    asked_to = resume.asked(request.flags.overrides) is not None
    going_on = asked_to and (home.is_dir() or ours)
    swept = door.swept(request.flags.overrides)
    job = job._replace(swept=swept, sweep=str(home), going_on=going_on)
    if ours:
        (sweeping.plan if job.planned else sweeping.train)(job, request, home)
        return
    with folder.claimed(home, going_on, whole.run.overwrite):
        own = f"{places.SWEEP}={compose.quoted(str(home))}"
        task = functools.partial(_swept, job, asked)
        compose.run(task, [*request.argv, own], COMMAND)


def _swept(job: Job, asked: signals.Signals, composed: "DictConfig") -> None:
    """Run a point of a sweep; say at once which one failed, and let the others run."""
    from hydra.core.hydra_config import HydraConfig

    from rl_grads.cli import errors

    try:
        _point(job, asked, composed)
    except errors.PointFailed:
        raise
    except Exception as error:
        settings = HydraConfig.get()
        known = isinstance(error, errors.KNOWN)
        task = settings.overrides.task
        own = [o for o in task if o.partition("=")[0] in job.swept]
        reason = errors.explain(error, task) if known else repr(error)
        message = f"{COMMAND}: point {settings.job.num} ({' '.join(own)}): {reason}"
        errors.tell(message, full=job.tracebacks or not known)
        raise errors.PointFailed(2 if known else 1) from error


# ------------------------------------------------------------------------------ a point


def _point(job: Job, asked: signals.Signals, composed: "DictConfig") -> None:
    """Train what Hydra has composed, perhaps in a process that a launcher started."""
    from hydra.core.hydra_config import HydraConfig

    from rl_grads.cli import compose, plugins
    from rl_grads.config import replace
    from rl_grads.training import backend

    plugins.load(job.plugins)
    settings = HydraConfig.get()
    home = pathlib.Path(settings.runtime.output_dir)
    origin = job.origin(_choices(settings), compose.environment_values(composed))
    config = replace(compose.to_config(composed), {"resume": None})
    if job.sweep is None:  # Its folder is claimed, and JAX has started.
        _show(job, asked, _members(config), home, origin)
        return
    if job.going_on and (home / "config.json").exists():
        if (home / "summary.json").exists():
            print(f"{home}: finished before")
            return
        config = replace(config, {"resume": str(home)})
    backend.start(config)
    from rl_grads.training.train import claimed

    with claimed(home, config):
        _show(job, asked, _members(config), home, origin)


def _members(config: Config) -> Sequence["Member"]:
    from rl_grads.training.population import population

    return population(config)


def _choices(settings: Section) -> dict[str, str]:
    """The file that was chosen for each group of ours."""
    choices = settings.runtime.choices
    return {k: v for k, v in choices.items() if isinstance(v, str) and "hydra" not in k}


def _show(
    job: Job,
    asked: signals.Signals,
    members: Sequence["Member"],
    home: pathlib.Path,
    origin: "provenance.Origin",
) -> None:
    """Train, and show the result; or how to go on, where a signal came."""
    import rich.console

    from rl_grads.cli import resume
    from rl_grads.tracking import log
    from rl_grads.tracking.progress import result_table
    from rl_grads.training import devices
    from rl_grads.training.engine import Given
    from rl_grads.training.train import Request, train_all

    again = resume.command(members[0].config, home, tuple(job.options()))
    asked.hint = f"; to go on:\n  {again}"
    tell(f"Device: {devices.describe()}")
    request = Request(Given(None, None), members, origin)
    with asked.noted(), failing(job, home):
        result = train_all(request, home, asked.asked)
    if result.halted_at is not None:
        at = f"stopped at step {result.halted_at:,} of each member"
        tell(f"{COMMAND}: {at}{asked.hint}")
        asked.end()
    summary = result.summary()
    table = result_table(summary, written(home), job.table == "full")
    rich.console.Console().print(table)
    log.write(as_text(table))
    tell(timing(result))
    shown = shlex.quote(os.path.relpath(home))
    tell(f"rl-grads report {shown}  # all of it as one page")
    asked.end()


def _table(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The table that is asked for, and the other arguments."""
    rest, arguments, table = [], iter(argv), "short"
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == "--table":
            table = value if equals else next(arguments, "")
        else:
            rest.append(argument)
    if table not in ("short", "full"):
        raise ConfigError(f"--table={table}: expected short or full")
    return table, rest
