"""Training a population: the host's loop over stretches of compiled iterations.

Between two stretches the host logs, evaluates and saves; nothing calls back to it from
inside the program.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import prng
from rl_grads.agents.agent import evaluated
from rl_grads.config import ConfigError
from rl_grads.envs import faults
from rl_grads.envs.make import make as make_environment
from rl_grads.training import compilation, devices, maybe
from rl_grads.training.checks.door import check
from rl_grads.training.diagnostics import measuring
from rl_grads.training.engine import Engine, Given, engine
from rl_grads.training.population import Member, stack
from rl_grads.training.result import Result, Timing
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree, State


class Snapshot(NamedTuple):
    """All that changes while a population trains.

    Attributes:
        iteration: Iterations so far.
        members: States of the members, stacked and padded, on the devices.
        logged: The iteration of the last row, or the one where training begins.
    """

    iteration: int
    members: Any
    logged: int


Callback = Callable[[int, Mapping[str, np.ndarray]], None]  # Of a row.


def _ignore(*_: object) -> None:
    """Do nothing with a row or a snapshot."""


def _never() -> bool:
    """Nobody asks to stop."""
    return False


class Hooks(NamedTuple):
    """What the host does between stretches.

    Attributes:
        row: Called with the environment step and the metrics `[members]` of a row.
        save: Called behind every row with the snapshot, and whether
            `checkpoint.interval` asks for a checkpoint there.
        halted: Whether somebody has asked to stop; training then ends where it is.
        callback: The user's own, called as `row` is when the row is safe; or None.
    """

    row: Callback = _ignore
    save: Callable[[Snapshot, bool], None] = _ignore
    halted: Callable[[], bool] = _never
    callback: Callback | None = None


NO_HOOKS = Hooks()


class Plan(NamedTuple):
    """What stays the same while a population trains.

    Attributes:
        members: The members.
        config: The first member's config; its static fields are everyone's.
        layout: Where the members live.
        engine: The compiled programs.
        configs: All configs, stacked and padded, on the devices.
        clock: Started with the plan.
        on_host: Whether its environments live on the host, where they may fail.
    """

    members: tuple[Member, ...]
    config: Config
    layout: devices.Layout
    engine: Engine
    configs: Any
    clock: compilation.Clock
    on_host: bool


def plan_for(given: Given, members: Sequence[Member]) -> Plan:
    """Check the members and lay them out over the devices."""
    clock = compilation.Clock(time.perf_counter(), compilation.seconds())
    config = members[0].config
    check(config, given, len(members))
    environment = given.environment or make_environment(config.env)
    on_host = not environment.resamples
    limit = 1 if given.environment and on_host else devices.device_limit(config)
    layout = devices.layout(len(members), limit)
    stacked = devices.put(layout, stack(members))
    programs = engine(given, layout.mesh)
    return Plan(tuple(members), config, layout, programs, stacked, clock, on_host)


class Ended(NamedTuple):
    """Where training has ended.

    Attributes:
        snapshot: The state there. Where an environment has failed, of the last row, and
            of its members only what a result takes.
        rows: All rows.
        timing: What it took.
        halted: Whether it was asked to stop.
        failed: What an environment on the host has raised; None if nothing.
    """

    snapshot: Snapshot
    rows: tuple["Row", ...]
    timing: Timing
    halted: bool
    failed: faults.EnvironmentFailed | None = None


def train_from(
    plan: Plan,
    snapshot: Snapshot,
    hooks: Hooks = NO_HOOKS,
    history: Sequence["Row"] = (),
) -> Ended:
    """Train a population from a snapshot to the end.

    Args:
        plan: What stays the same.
        snapshot: Where to begin, see `start`; its arrays are given up.
        hooks: What to do with rows and checkpoints, and when to stop.
        history: Rows up to the snapshot, of a resumed run.
    """
    rows, first, pace = list(history), snapshot.iteration, Pace()
    halted, failed = False, None
    for stop in stops(plan.config):
        done = bool(rows) and _all_done(plan.config, rows[-1].metrics)
        if done or halted or failed or stop.iteration <= snapshot.logged:
            continue
        before = _copy_outcome(plan, snapshot)
        try:
            with faults.told(), _out_of_memory(plan):
                snapshot, row = advance(plan, snapshot, stop, hooks.halted, pace)
        except faults.EnvironmentFailed as error:
            snapshot, failed = before, error
            continue
        if row is not None:
            rows.append(row)
            hooks.row(row.step, row.metrics)
            hooks.save(snapshot, stop.save)
            if hooks.callback is not None:
                hooks.callback(row.step, row.metrics)
        halted = hooks.halted()
    per = steps_per_iteration(plan.config) * len(plan.members)
    timing = Timing(
        wall_s=time.perf_counter() - plan.clock.wall_s,
        compile_s=compilation.seconds() - plan.clock.compile_s,
        steps=(snapshot.iteration - first) * per,
    )
    return Ended(snapshot, tuple(rows), timing, halted, failed)


@contextlib.contextmanager
def _out_of_memory(plan: Plan) -> Iterator[None]:
    """Say in one line what asked for more memory than there is."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        said = " ".join(str(error).split())
        if not said.startswith("RESOURCE_EXHAUSTED"):
            raise
        raise ConfigError(
            f"{len(plan.members)} members need more memory than there is ({said}): "
            "expected fewer `seeds`, a smaller training.batch_size or network"
        ) from error


def _copy_outcome(plan: Plan, snapshot: Snapshot) -> Snapshot:
    """A snapshot that outlives its arrays, where an environment may fail."""
    if not plan.on_host:
        return snapshot
    members = snapshot.members
    learnt = (members.agent.params, members.agent.average)
    params, average, *stops = jax.tree.map(
        jnp.copy, (*learnt, members.diverged_at, members.unusable)
    )
    agent = members.agent._replace(params=params, average=average)
    names = ("diverged_at", "unusable")
    members = members._replace(agent=agent, **dict(zip(names, stops, strict=True)))
    return snapshot._replace(members=members)


def fresh(plan: Plan, iteration: int = 0) -> PyTree:
    """Members before their first step; `iteration` folds into the keys where not 0."""
    seeds: Any = np.array([m.seed for m in plan.members], np.uint32)
    keys = jax.vmap(prng.key)(seeds)
    if iteration:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, iteration)
    return plan.engine.init(plan.configs, devices.put(plan.layout, keys))


def start(plan: Plan) -> Snapshot:
    """The state before the first update, with the replay memory warmed up."""
    iterations = warm_up_iterations(plan.config)
    with faults.told(), _out_of_memory(plan):
        members = fresh(plan)
        if iterations:
            members, _ = plan.engine.warm_up(plan.configs, members, 0, iterations)
        if plan.on_host:
            jax.block_until_ready(members)
    return Snapshot(iterations, members, iterations)


def metric_names(plan: Plan) -> tuple[str, ...]:
    """What rows may have, known before there is one: nothing is run."""
    members = jax.eval_shape(lambda: fresh(plan))
    given, zero = (plan.configs, members), np.int32(0)
    chunk = plan.engine.chunk
    found = dict(jax.eval_shape(chunk, *given, zero, zero, np.bool_(True))[1])
    found |= jax.eval_shape(plan.engine.evaluate, *given, zero)
    if measuring.is_on(plan.config):
        found |= jax.eval_shape(plan.engine.diagnose, *given, zero)
    return tuple(sorted(found))


def restored(iteration: int, members: State) -> Snapshot:
    """A snapshot of saved members, which know how far their stretch has come."""
    since = int(np.asarray(members.stretch.iterations)[0])
    return Snapshot(iteration, members, iteration - since)


class Stop(NamedTuple):
    """Where the host takes over: after so many iterations, and what is due there."""

    iteration: int
    evaluate: bool
    save: bool


def steps_per_iteration(config: Config) -> int:
    """Environment steps of one member in one iteration."""
    return config.training.num_envs * config.training.num_steps


def warm_up_iterations(config: Config) -> int:
    """Iterations that only fill the replay memory."""
    if config.replay is None:
        return 0
    return math.ceil(config.training.warmup_steps / steps_per_iteration(config))


def stops(config: Config) -> Iterator[Stop]:
    """Every stop of a run, in order; the last ends it and evaluates."""
    per = steps_per_iteration(config)
    last, at = config.training.total_steps // per, warm_up_iterations(config)
    evaluate, save = config.evaluation.interval, config.checkpoint.interval
    intervals = [n for n in (config.tracking.interval, evaluate, save) if n is not None]
    while at < last:
        begun = at * per
        at = min(last, *(-(-(begun // n + 1) * n // per) for n in intervals))
        evaluated = at == last or _is_due(evaluate, begun, at * per)
        yield Stop(at, evaluated, _is_due(save, begun, at * per))


def _is_due(interval: int | None, begin: int, end: int) -> bool:
    """Whether a multiple of an interval lies in (begin, end]."""
    return interval is not None and end // interval > begin // interval


def without_padding(plan: Plan, members: State) -> PyTree:
    """What is stacked over members, of the real ones alone."""
    count = len(plan.members)
    return jax.tree.map(lambda leaf: leaf[:count], members)


def state(plan: Plan, snapshot: Snapshot) -> PyTree:
    """What is saved of a snapshot: behind a row the stretch is empty (`restored`)."""
    members = without_padding(plan, snapshot.members)
    if snapshot.logged < snapshot.iteration:
        return members
    empty = jax.tree.map(jnp.zeros_like, members.stretch)
    return members._replace(stretch=empty)


class Row(NamedTuple):
    """A logged row: the environment step and metrics `[members]`."""

    step: int
    metrics: dict[str, np.ndarray]


class Pace:
    """How many iterations to run at once, so that each piece takes about a second.

    Example:
        >>> pace = Pace()
        >>> pace.took(1, 5.0)  # The first one also compiles, and says nothing.
        >>> pace.took(1, 0.001)
        >>> pace.size
        4
    """

    SECONDS = 1.0

    def __init__(self) -> None:
        self.size, self._compiled = 1, False

    def took(self, iterations: int, seconds: float) -> None:
        """Learn from a piece; the size at most quadruples."""
        if self._compiled and iterations:
            fitting = self.SECONDS * iterations / max(seconds, 1e-9)
            self.size = max(1, min(int(fitting), 4 * iterations))
        self._compiled = True


def advance(
    plan: Plan,
    snapshot: Snapshot,
    stop: Stop,
    halted: Callable[[], bool] = _never,
    pace: Pace | None = None,
) -> tuple[Snapshot, Row | None]:
    """Run to a stop; the old snapshot's arrays are given up.

    Args:
        plan: What stays the same.
        snapshot: Where to begin.
        stop: Where to end.
        halted: Asked after every piece; the row is None where it cut the stretch.
        pace: Cuts the stretch into pieces; None: it is one.
    """
    whole = stop.iteration - snapshot.iteration
    metrics: dict[str, Any] = {}
    while not metrics or snapshot.iteration < stop.iteration:
        left = stop.iteration - snapshot.iteration
        snapshot, metrics = _piece(plan, snapshot, min(left, _size(pace, whole)), pace)
        if halted():
            return snapshot, None
    return snapshot._replace(logged=stop.iteration), _row(plan, snapshot, stop, metrics)


def _size(pace: Pace | None, whole: int) -> int:
    return whole if pace is None else pace.size


def _piece(
    plan: Plan, snapshot: Snapshot, iterations: int, pace: Pace | None = None
) -> tuple[Snapshot, dict[str, PyTree]]:
    """Some iterations, and the mean metrics of the stretch so far."""
    began, time_ = time.perf_counter(), plan.config.training.num_steps
    first = snapshot.iteration == snapshot.logged
    members, metrics = plan.engine.chunk(
        plan.configs, snapshot.members, snapshot.iteration * time_, iterations, first
    )
    if pace is not None:
        jax.block_until_ready(metrics)
        pace.took(iterations, time.perf_counter() - began)
    return Snapshot(snapshot.iteration + iterations, members, snapshot.logged), metrics


def forward(
    plan: Plan, snapshot: Snapshot, iteration: int
) -> tuple[Snapshot, dict[str, np.ndarray]]:
    """Train up to an iteration; the mean metrics `[members]` since the last row.

    The old snapshot's arrays are given up.
    """
    snapshot, metrics = _piece(plan, snapshot, iteration - snapshot.iteration)
    return snapshot, _on_host(plan, metrics)


def _on_host(plan: Plan, metrics: Mapping[str, PyTree]) -> dict[str, np.ndarray]:
    """The metrics of the real members, `[members]`."""
    count = len(plan.members)
    return {name: maybe.on_host(value)[:count] for name, value in metrics.items()}


def _row(plan: Plan, snapshot: Snapshot, stop: Stop, metrics: dict[str, PyTree]) -> Row:
    """What a stop logs: its stretch, and what is measured there."""
    members, end = snapshot.members, stop.iteration * plan.config.training.num_steps
    if stop.evaluate or _all_done(plan.config, metrics):
        metrics |= plan.engine.evaluate(plan.configs, members, end)
    if measuring.is_on(plan.config):
        metrics |= plan.engine.diagnose(plan.configs, members, end)
    step = stop.iteration * steps_per_iteration(plan.config)
    return Row(step, _on_host(plan, metrics))


def _all_done(config: Config, metrics: Mapping[str, PyTree]) -> bool:
    """Whether every member has had its episodes, where training counts them."""
    wanted = config.training.total_episodes
    if wanted is None:
        return False
    return bool(np.all(np.asarray(metrics["training/episodes"]) >= wanted))


def result(plan: Plan, ended: Ended) -> Result:
    """What training gives back."""
    rows, members = ended.rows, ended.snapshot.members
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    missing = np.full(len(plan.members), np.nan)
    columns = {n: [row.metrics.get(n, missing) for row in rows] for n in names}
    params = jax.device_get(evaluated(members.agent))
    diverged_at = np.asarray(members.diverged_at)
    unusable = {k: np.asarray(v) for k, v in members.unusable._asdict().items()}
    indices, per = range(len(plan.members)), steps_per_iteration(plan.config)
    return Result(
        members=plan.members,
        steps=np.array([row.step for row in rows], int),
        metrics={name: np.stack(values, 1) for name, values in columns.items()},
        params=tuple(_take(params, index) for index in indices),
        diverged_at=tuple(int(diverged_at[index]) for index in indices),
        timing=ended.timing,
        device=devices.describe(),
        halted_at=ended.snapshot.iteration * per if ended.halted else None,
        unusable=tuple(
            {kind: int(at[index]) for kind, at in unusable.items() if at[index] >= 0}
            for index in indices
        ),
        failure=ended.failed,
    )


def _take(tree: PyTree, index: int) -> PyTree:
    """One member's part of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
