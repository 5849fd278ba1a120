"""A job of a sweep: one population, trained perhaps in a process of a launcher's."""

import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from rl_grads.cli import errors, plugins, signals
from rl_grads.cli.job import COMMAND, Job
from rl_grads.config import replace
from rl_grads.config.document import from_document
from rl_grads.training.schema import Config

if TYPE_CHECKING:
    from rl_grads.training.places import Group
    from rl_grads.training.population import Member
    from rl_grads.training.provenance import Origin


class Planned(NamedTuple):
    """A point of a population: its number, its command line, and what it changes.

    Attributes:
        number: The name of its folder.
        overrides: Its command line.
        changes: Dotted key to value, where it differs from the population's document.
    """

    number: int
    overrides: tuple[str, ...]
    changes: Mapping[str, Any]


class Population(NamedTuple):
    """Points that train together, in plain values: a job may run anywhere.

    Attributes:
        name: Of its folder.
        document: The flat document of its first point's config.
        points: Its points.
        choices: The file that was chosen for each group.
        unresolved: Dotted key to the text of a value that reads the environment.
    """

    name: str
    document: Mapping[str, Any]
    points: tuple[Planned, ...]
    choices: Mapping[str, str]
    unresolved: Mapping[str, str]

    def configs(self) -> list[Config]:
        """The checked config of every point."""
        first = from_document(self.document, Config(), self.name)
        return [replace(first, _as_tuples(p.changes)) for p in self.points]

    def members(self) -> int:
        """How many members there are."""
        seeds = (p.changes.get("seeds", self.document["seeds"]) for p in self.points)
        return sum(seeds)

    def label(self) -> str:
        """The points in words, with what they share of their command lines."""
        numbers = [point.number for point in self.points]
        shared = set(self.points[0].overrides)
        for point in self.points:
            shared &= set(point.overrides)
        if len(numbers) == 1:
            return f"point {numbers[0]}"
        return f"points {_ranges(numbers)}"


def _as_tuples(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}


def _ranges(numbers: Sequence[int]) -> str:
    """`0 to 3, 7` for 0, 1, 2, 3, 7."""
    groups = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in pairs] for _, pairs in groups]
    return ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs
    )


class Outcome(NamedTuple):
    """How a job has ended.

    Attributes:
        status: 0, or the exit status that its failure asks for.
        told: What it has said of that on its standard error.
        process: In which process.
    """

    status: int
    told: tuple[str, ...]
    process: int


class Task(NamedTuple):
    """What a launcher calls, with a job's composed config.

    Attributes:
        job: What all jobs must know.
        populations: The populations, by the names of their folders.
        largest: Most members of one: so many devices are of use to this process.
        at_once: Jobs that this machine runs at a time, and that share its cores.
    """

    job: Job
    populations: Mapping[str, Population]
    largest: int
    at_once: int

    def __call__(self, composed: DictConfig) -> Outcome:
        """Train the population in whose folder the launcher has put this job."""
        from hydra.core.hydra_config import HydraConfig

        directory = pathlib.Path(HydraConfig.get().runtime.output_dir)
        population = self.populations[directory.name]
        with signals.of_this_process() as asked:
            return _guarded(self, population, asked)


def _guarded(task: Task, population: Population, asked: signals.Signals) -> Outcome:
    """Train; say at once what failed, and let the other jobs run."""
    try:
        _train(task, population, asked)
    except errors.PointFailed as failed:
        return Outcome(failed.args[0], (), os.getpid())
    except Exception as error:
        known = isinstance(error, errors.KNOWN)
        overrides = population.points[0].overrides
        reason = errors.explain(error, overrides) if known else repr(error)
        own = " ".join(_shared(population, task.job.swept))
        named = f"{population.label()} ({own})" if own else population.label()
        message = f"{COMMAND}: {named}: {reason}"
        errors.tell(message, full=task.job.tracebacks or not known)
        return Outcome(2 if known else 1, (message,), os.getpid())
    return Outcome(0, (), os.getpid())


def _shared(population: Population, swept: Sequence[str]) -> Iterator[str]:
    """The swept values that all its points have."""
    first = population.points[0].overrides
    for override in first:
        if override.partition("=")[0] in swept and all(
            override in point.overrides for point in population.points
        ):
            yield override


def _train(task: Task, population: Population, asked: signals.Signals) -> None:
    """Train a population in its folder, from the start or from where it has come."""
    plugins.load(task.job.plugins)
    from rl_grads.tracking import folder, lease
    from rl_grads.training import backend, devices

    assert task.job.sweep is not None
    home = pathlib.Path(task.job.sweep) / population.name
    places = [home.parent / str(point.number) for point in population.points]
    if all((place / folder.SUMMARY).exists() for place in places):
        print(f"{home}: finished before")
        return
    held = lease.holder(home)
    if held is not None:
        print(f"{home}: {held} works in it, and it is left alone")
        return
    cores = max(1, devices.available_cores() // task.at_once)
    backend.start(population.configs()[0], min(task.largest, cores))
    going_on = (home / folder.RUN).exists()
    group = layout(home.parent, population)
    members = list(_members(population, group, going_on))
    origin = task.job.origin(population.choices, population.unresolved)
    with folder.claimed(home, going_on, overwrite=False):
        train_group(task.job, asked, Together(members, group, origin, going_on))


class Together(NamedTuple):
    """Members that train together.

    Attributes:
        members: The members.
        group: Their folders.
        origin: How their run was started.
        going_on: Whether it goes on from the state that its folder has.
    """

    members: Sequence["Member"]
    group: "Group"
    origin: "Origin"
    going_on: bool


def train_group(job: Job, asked: signals.Signals, together: Together) -> None:
    """Train one population of several points in its folder, which is claimed."""
    from rl_grads.cli.showing import failing, tell, timing
    from rl_grads.training import devices
    from rl_grads.training.engine import Given
    from rl_grads.training.train import Request, train_groups

    members, group, origin, going_on = together
    home = group.home
    assert home is not None
    count = f"{len(group.points)} points, {len(members)} members"
    tell(f"{home}: {count}; {devices.describe()}")
    request = Request(Given(None, None), members, origin)
    by_point = f"rl-grads train resume={group.points[0].directory}"
    asked.hint = f"; to go on:\n  {job.again or by_point}"
    with asked.noted(), failing(job, home):
        source = home if going_on else None
        result = train_groups(request, [group], [source], asked.asked)
    if result.halted_at is not None:
        at = f"stopped at step {result.halted_at:,} of each member"
        tell(f"{COMMAND}: {at}{asked.hint}")
        asked.end()
    _note(group)
    tell(timing(result))
    asked.end()


def layout(sweep: pathlib.Path, population: Population) -> "Group":
    """The folders of a population of a sweep."""
    from rl_grads.training.places import Group, Point

    points, first = [], 0
    for config, planned in zip(population.configs(), population.points, strict=True):
        own = tuple(range(first, first + config.seeds))
        points.append(Point(sweep / str(planned.number), own))
        first += config.seeds
    return Group(list(range(first)), sweep / population.name, tuple(points))


def _members(
    population: Population, group: "Group", going_on: bool
) -> Iterator["Member"]:
    """The members of all points, in order."""
    from rl_grads.training.population import population as members_of

    for config, point in zip(population.configs(), group.points, strict=True):
        own = {"resume": str(point.directory) if going_on else None}
        yield from members_of(replace(config, own))


def _note(group: "Group") -> None:
    """Write what is to be said of every point into its log."""
    from rl_grads.cli.showing import as_text
    from rl_grads.tracking import folder
    from rl_grads.tracking.progress import result_table

    for point in group.points:
        if point.directory == group.home:
            continue  # Its log is the job's.
        summary = json.loads((point.directory / folder.SUMMARY).read_text("utf-8"))
        table = result_table(summary, [], True)
        text = f"trained in {group.home}, with other points\n{as_text(table)}"
        (point.directory / "train.log").write_text(text, encoding="utf-8")
