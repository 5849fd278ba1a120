"""A run with files: trackers, progress, checkpoints and the summary around training."""

import contextlib
import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads.analysis import statistics
from rl_grads.config import has_name, schema_name
from rl_grads.tracking import folder, labels, log
from rl_grads.tracking.files import CannotWrite, writing
from rl_grads.tracking.progress import Progress
from rl_grads.tracking.run import Run
from rl_grads.tracking.tracker import Trackers, open_trackers
from rl_grads.training import continuing, documents, parameters, provenance, run
from rl_grads.training.checkpoint import Checkpoints, Due, Saved
from rl_grads.training.places import Point
from rl_grads.training.result import Result
from rl_grads.training.schema import Config
from rl_grads.training.setup import Setup
from rl_grads.typing import Document, Json


class _Asked(NamedTuple):
    """What trackers are told of the run, and whether to stop."""

    how: Mapping[str, Any]
    halted: Callable[[], bool]


def record(setup: Setup, halted: Callable[[], bool]) -> Result:
    """Train one population and write its files.

    Args:
        setup: What and where.
        halted: Whether somebody has asked to stop; the state is then saved.

    Raises:
        ConfigError: The config does not fit, or there is nothing to resume.
        OSError: A folder cannot be written.
    """
    plan = run.plan_for(setup.given, setup.members)
    begin = continuing.begin(plan, setup)
    with writing(setup.home):
        told = documents.start(setup, begin)
    try:
        how = provenance.public(told.now)
        result = _train(setup, plan, begin, _Asked(how, halted))
    except BaseException as error:
        with contextlib.suppress(OSError):
            documents.end(setup, told.document, *_why(error))
        raise
    with writing(setup.home):
        why = None if result.failure is None else str(result.failure)
        documents.end(setup, told.document, result.status, why)
    return result


def _why(error: BaseException) -> tuple[str, str]:
    """Status of a run that an error has ended, and the error in words."""
    stopped = isinstance(error, KeyboardInterrupt | SystemExit)
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return "interrupted" if stopped else "failed", words


def _train(
    setup: Setup,
    plan: run.Plan,
    begin: continuing.Begin,
    asked: _Asked,
) -> Result:
    runs = [_describe(setup, point, asked.how) for point in setup.group.points]
    if plan.config.tracking.own:
        metrics = run.metric_names(plan)
        runs = [described._replace(metrics=metrics) for described in runs]
    with contextlib.ExitStack() as stack:
        with writing(setup.home):
            checkpoints = Checkpoints(setup.home, plan.config.checkpoint.keep)
            stack.callback(checkpoints.close)
            trackers = [
                stack.enter_context(open_trackers(described, offset=offset))
                for described, offset in zip(runs, begin.offsets, strict=True)
            ]
        progress = stack.enter_context(_progress(plan))
        due = Due(plan.config.checkpoint.seconds, time.monotonic())
        files = Files(plan, setup.group.points, trackers, checkpoints, progress, due)
        hooks = run.Hooks(files.row, files.save, asked.halted, setup.callback)
        snapshot = begin.snapshot or run.start(plan)
        ended = run.train_from(plan, snapshot, hooks, begin.history)
        return _end(files, ended)


_LOG = logging.getLogger(__name__)


class Files(NamedTuple):
    """What is written between stretches."""

    plan: run.Plan
    points: tuple[Point, ...]
    trackers: Sequence[Trackers]
    checkpoints: Checkpoints
    progress: Progress
    due: Due

    def row(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Log a row of metrics `[members]`, each point its own members."""
        for point, tracker in zip(self.points, self.trackers, strict=True):
            own = list(point.members)
            part = {name: values[own] for name, values in metrics.items()}
            with writing(point.directory):
                tracker.log(step, part)
        self.progress.update(step, metrics)

    def save(self, snapshot: run.Snapshot, asked: bool) -> None:
        """Save the state where a checkpoint is due, by its step or by the clock."""
        now = time.monotonic()
        if not asked and not self.due(now, self.checkpoints.cost):
            return
        self.due.saved(now)
        try:
            self.keep(snapshot)
        except CannotWrite as error:
            _LOG.warning("no checkpoint at iteration %s: %s", snapshot.iteration, error)

    def keep(self, snapshot: run.Snapshot) -> None:
        """Save the state, with every logged row on the disk before it."""
        seeds = tuple(m.seed for m in self.plan.members)
        members = run.state(self.plan, snapshot)
        with writing(self.points[0].directory):
            offset = sum(tracker.offset() for tracker in self.trackers)
            self.checkpoints.save(Saved(snapshot.iteration, offset, seeds, members))


def _end(files: Files, ended: run.Ended) -> Result:
    """Keep the state of a run that was halted, and the outcome of one that was not."""
    result = run.result(files.plan, ended)
    if ended.halted:
        files.keep(ended.snapshot)
        with writing(files.points[0].directory):
            files.checkpoints.wait()
        return result
    agent = ended.snapshot.members.agent
    learnt = run.without_padding(files.plan, (agent.params, agent.average))
    for point, tracker in zip(files.points, files.trackers, strict=True):
        own = np.array(point.members)
        params = jax.tree.map(lambda x, own=own: x[own], learnt)
        with writing(point.directory):
            parameters.save(point.directory / folder.PARAMETERS, *params)
            tracker.finish(result.select(point.members).summary())
    if files.plan.config.checkpoint.interval is None and result.failure is None:
        files.checkpoints.remove_all()
    return result


def _progress(plan: run.Plan) -> Progress:
    seeds = [m.seed for m in plan.members]
    total, enabled = plan.config.training.total_steps, plan.config.tracking.progress
    return Progress(total, "steps", seeds, enabled, log=log.write)


def _describe(setup: Setup, point: Point, how: Mapping[str, Json]) -> Run:
    """What the trackers of a point are told."""
    own = [setup.members[k] for k in point.members]
    configs = tuple(_shown(m.config, setup.origin.unresolved) for m in own)
    agent = own[0].config.agent
    inside = point.directory.is_relative_to(setup.home)
    whole = setup.home if inside else setup.home.parent  # Points of many populations.
    named = labels.names(point.directory, pathlib.Path(setup.origin.sweep or whole))
    return Run(
        directory=point.directory,
        name=named.name,
        seeds=tuple(m.seed for m in own),
        configs=configs,
        settings=own[0].config.tracking,
        group=named.group,
        tags=labels.tags(
            experiment=setup.origin.choices.get("experiment"),
            agent=schema_name(agent) if has_name(agent) else None,
            env=configs[0]["env"]["id"],
        ),
        provenance=how,
        differs=_differs(setup, point),
        company=setup.job.members,
        over_members=statistics.spread,
    )


def _differs(setup: Setup, point: Point) -> dict[str, str]:
    """What a point's config has of the keys in which the job's points differ."""
    entries, origin = documents.entries(setup, point), setup.origin
    nested = {k: v for k, v in entries.items() if isinstance(v, Mapping)}
    inner = {f"{k}.{name}": v for k in nested for name, v in nested[k].items()}
    known = {**inner, **entries, **origin.choices, **origin.unresolved}
    return labels.differences(known, setup.job.varied)


def _shown(config: Config, unresolved: Mapping[str, str]) -> Document:
    """A config as nested values; what came from the environment as it was asked."""
    values = dataclasses.asdict(config)
    for path, text in unresolved.items():
        *parents, name = path.split(".")
        functools.reduce(lambda node, part: node[part], parents, values)[name] = text
    return values
