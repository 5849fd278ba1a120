"""`rl-grads train`: one population per point, its files and its trackers."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rl_grads.cli import plugins

COMMAND = "rl-grads train"


def main(argv: Sequence[str]) -> int:
    """Train what the arguments say; returns the exit status."""
    from rl_grads.cli import errors

    return errors.guard(COMMAND, argv, functools.partial(_main, argv))


def _main(argv: Sequence[str], tracebacks: bool) -> None:
    from rl_grads.cli import compose, door, help_page, resume

    names, rest = plugins.split(argv)
    plugins.load(names)
    compose.store_schemas()
    if {"-h", "--help"} & set(rest):
        print(help_page.text())
        return
    arguments = [compose.spell(a) for a in resume.expand(rest)]
    request = compose.read(arguments)
    door.check(request, _fits)
    swept = door.swept(request.flags.overrides) if request.multirun else ()
    failures: list[Exception] = []
    task = functools.partial(_task, Job(names, swept, tracebacks, failures))
    resolve = ["--resolve"] if request.flags.cfg == "job" else []
    compose.run(task, [*resolve, *request.argv], COMMAND)
    for failure in failures:
        raise failure


def _fits(config: Any) -> None:
    """Refuse a config whose parts do not fit each other."""
    from rl_grads.training import backend

    backend.start(config)
    from rl_grads.training.check import check
    from rl_grads.training.engine import Given

    check(config, Given(None, None))


class Job(NamedTuple):
    """What a job must know beside its config.

    Attributes:
        plugins: Modules to import in the job's own process.
        swept: Keys that differ between the points of a sweep.
        tracebacks: Whether bad input shows one.
        failures: Takes the bad input that a single run meets.
    """

    plugins: Sequence[str]
    swept: Sequence[str]
    tracebacks: bool
    failures: list[Exception]


def _task(job: Job, composed: Any) -> None:
    """Train one point, perhaps in a process that a launcher has started."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from rl_grads.cli import errors

    plugins.load(job.plugins)
    the = HydraConfig.get()
    directory = pathlib.Path(the.runtime.output_dir)
    point = functools.partial(_point, composed, directory)
    if the.mode == RunMode.MULTIRUN:
        _tell_failure(point, the, job)
        return
    try:
        point()
    except errors.KNOWN as error:  # Raised here, Hydra would add a line of its own.
        job.failures.append(error)


def _tell_failure(point: Callable[[], None], the: Any, job: Job) -> None:
    """Run a point of a sweep; say at once which one failed, and let the others run."""
    from rl_grads.cli import errors

    try:
        point()
    except Exception as error:
        known = isinstance(error, errors.KNOWN)
        own = [o for o in the.overrides.task if o.partition("=")[0] in job.swept]
        reason = errors.explain(error, the.overrides.task) if known else repr(error)
        message = f"{COMMAND}: point {the.job.num} ({' '.join(own)}): {reason}"
        errors.tell(message, full=job.tracebacks or not known)
        raise errors.PointFailed(2 if known else 1) from error


def _point(composed: Any, directory: pathlib.Path) -> None:
    """Start JAX as the config says, train, and show the result."""
    from rl_grads.cli import compose
    from rl_grads.training import backend

    config = compose.to_config(composed)
    backend.start(config)
    import rich.console

    from rl_grads.tracking.progress import result_table
    from rl_grads.training import devices
    from rl_grads.training.population import population
    from rl_grads.training.run import train

    console = rich.console.Console(stderr=True)
    console.print(f"Device: {devices.describe()}")
    result = train(members=population(config), run_dir=directory)
    summary = result.summary()
    rich.console.Console().print(result_table(summary, _written(directory)))
    console.print(_timing(summary))


def _timing(summary: Mapping[str, Any]) -> str:
    """How long it took, and how much of that was compilation."""
    return (
        f"{len(summary['seeds'])} members x {summary['env_steps']:,} steps in "
        f"{summary['wall_s']:.1f} s, {summary['compile_s']:.1f} s of it compilation; "
        f"then {summary['steps_per_s']:,.0f} steps/s"
    )


def _written(directory: pathlib.Path) -> list[pathlib.Path]:
    names = ("metrics.jsonl", "summary.json", "checkpoints", "wandb")
    paths = [directory / name for name in names]
    return [path for path in paths if path.exists()]
