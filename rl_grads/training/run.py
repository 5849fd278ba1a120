"""Training a population: the host's loop over stretches of compiled iterations.

Between two stretches the host logs, evaluates and saves; nothing calls back to it from
inside the program.
"""

import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads import config as configs
from rl_grads.agents.agent import Agent, evaluated
from rl_grads.envs.environment import Environment
from rl_grads.training import compilation, devices, diagnostics
from rl_grads.training.check import check
from rl_grads.training.engine import Engine, Given, engine
from rl_grads.training.population import Member, population, split, stack
from rl_grads.training.result import Result, Timing, join
from rl_grads.training.schema import Config


class Snapshot(NamedTuple):
    """All that changes while a population trains.

    Attributes:
        iteration: Iterations so far.
        members: States of the members, stacked and padded, on the devices.
    """

    iteration: int
    members: Any


class Hooks(NamedTuple):
    """What the host does between stretches.

    Attributes:
        row: Called with the environment step and the metrics `[members]` of a row.
        save: Called with a snapshot where a checkpoint is due.
    """

    row: Callable[[int, Mapping[str, np.ndarray]], None] = lambda step, metrics: None
    save: Callable[[Snapshot], None] = lambda snapshot: None


NO_HOOKS = Hooks()


def train(
    agent: Agent | None = None,
    env: Environment | str | None = None,
    members: Sequence[Member] | None = None,
    *,
    total_steps: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
) -> Result:
    """Train a population.

    Args:
        agent: An agent; None: the one that each config names.
        env: An environment, or its id; None: the one that each config names.
        members: Configs and seeds, from `population`; by default the default config.
        total_steps: Environment steps per member, instead of the configs' own.
        run_dir: Folder for metrics, summary and trackers; None writes nothing.

    Returns:
        The metrics of every member over time, and the final parameters.

    Example:
        >>> import rl_grads as rg
        >>> config = rg.Config()
        >>> members = rg.population(config, seeds=range(3))
        >>> result = rg.train(env="gymnax/CartPole-v1", members=members)
        >>> result.metrics["evaluation/return"].shape  # [members, time]
        (3, 100)
    """
    members = population(Config()) if members is None else tuple(members)
    changes: dict[str, Any] = {}
    if total_steps is not None:
        changes["training.total_steps"] = total_steps
    if isinstance(env, str):
        changes["env.id"] = env
    given = Given(agent, None if isinstance(env, str) else env)
    members = _changed(members, changes)
    groups = split(members)
    folders = _folders(run_dir, len(groups))
    results = [
        _train_group(given, [members[i] for i in group], folder)
        for group, folder in zip(groups, folders, strict=True)
    ]
    return join(results, [i for group in groups for i in group])


def _folders(
    run_dir: str | os.PathLike[str] | None, count: int
) -> list[pathlib.Path | None]:
    """One folder per population: the run's own, or numbered ones below it."""
    if run_dir is None:
        return [None] * count
    home = pathlib.Path(run_dir)
    return [home] if count == 1 else [home / str(i) for i in range(count)]


def _train_group(
    given: Given, members: Sequence[Member], folder: pathlib.Path | None
) -> Result:
    """Train one population, in its own precision whatever JAX's default is."""
    config = members[0].config
    with jax.enable_x64(config.precision == "float64"):
        if folder is None:
            the = plan(given, members)
            return train_from(the, start(the))
        from rl_grads.training import session

        return session.record(given, members, folder, config.resume is not None)


def _changed(members: Sequence[Member], changes: Mapping[str, Any]) -> list[Member]:
    """The members with changed configs; what shared a config still does."""
    made = {
        key: configs.canonical(configs.replace(config, changes))
        for key, config in {id(m.config): m.config for m in members}.items()
    }
    return [Member(made[id(m.config)], m.seed) for m in members]


class Plan(NamedTuple):
    """What stays the same while a population trains.

    Attributes:
        members: The members.
        config: The first member's config; its static fields are everyone's.
        layout: Where the members live.
        engine: The compiled programs.
        configs: All configs, stacked and padded, on the devices.
        clock: Started with the plan.
    """

    members: tuple[Member, ...]
    config: Config
    layout: devices.Layout
    engine: Engine
    configs: Any
    clock: compilation.Clock


def plan(given: Given, members: Sequence[Member]) -> Plan:
    """Check the members and lay them out over the devices."""
    clock = compilation.Clock(time.perf_counter(), compilation.seconds())
    config = members[0].config
    check(config, given)
    on_host = given.environment is not None and not given.environment.resamples
    limit = 1 if on_host else devices.device_limit(config)
    layout = devices.layout(len(members), limit)
    stacked = devices.put(layout, stack(members))
    programs = engine(given, layout.mesh)
    return Plan(tuple(members), config, layout, programs, stacked, clock)


def train_from(
    the: Plan,
    snapshot: Snapshot,
    hooks: Hooks = NO_HOOKS,
    history: Sequence["Row"] = (),
) -> Result:
    """Train a population from a snapshot to the end.

    Args:
        the: What stays the same.
        snapshot: Where to begin, see `start`; its arrays are given up.
        hooks: What to do with rows and checkpoints.
        history: Rows up to the snapshot, of a resumed run.
    """
    rows, first = list(history), snapshot.iteration
    for stop in stops(the.config):
        done = bool(rows) and _all_done(the.config, rows[-1].metrics)
        if done or stop.iteration <= snapshot.iteration:
            continue
        snapshot, row = advance(the, snapshot, stop)
        rows.append(row)
        hooks.row(row.step, row.metrics)
        if stop.save:
            hooks.save(snapshot)
    per = steps_per_iteration(the.config) * len(the.members)
    timing = Timing(
        wall_s=time.perf_counter() - the.clock.wall_s,
        compile_s=compilation.seconds() - the.clock.compile_s,
        steps=(snapshot.iteration - first) * per,
    )
    return _result(the, snapshot, rows, timing)


def fresh(the: Plan, iteration: int = 0) -> Any:
    """Members before their first step; `iteration` folds into the keys where not 0."""
    seeds = np.array([m.seed for m in the.members], np.uint32)
    keys = jax.vmap(jax.random.key)(seeds)
    if iteration:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, iteration)
    return the.engine.init(the.configs, devices.put(the.layout, keys))


def start(the: Plan) -> Snapshot:
    """The state before the first update, with the replay memory warmed up."""
    members = fresh(the)
    iterations = warm_up_iterations(the.config)
    if iterations:
        members = the.engine.warm_up(the.configs, members, 0, iterations)
    return Snapshot(iterations, members)


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


def stops(config: Config) -> list[Stop]:
    """Every stop of a run; the last ends it and evaluates."""
    per = steps_per_iteration(config)
    last = config.training.total_steps // per

    def every(interval: int | None) -> set[int]:
        if interval is None:
            return set()
        count = last * per // interval
        return {math.ceil(k * interval / per) for k in range(1, count + 1)}

    evaluate = every(config.evaluation.interval) | {last}
    save = every(config.checkpoint.interval)
    first = warm_up_iterations(config)
    at = sorted(evaluate | save | every(config.tracking.interval))
    return [Stop(i, i in evaluate, i in save) for i in at if first < i <= last]


def without_padding(the: Plan, members: Any) -> Any:
    """The states of the real members, on the host's side of a checkpoint."""
    count = len(the.members)
    return jax.tree.map(lambda leaf: leaf[:count], members)


class Row(NamedTuple):
    """A logged row: the environment step and metrics `[members]`."""

    step: int
    metrics: dict[str, np.ndarray]


def advance(the: Plan, snapshot: Snapshot, stop: Stop) -> tuple[Snapshot, Row]:
    """Run to a stop; the old snapshot's arrays are given up."""
    num_steps = the.config.training.num_steps
    begin, end = snapshot.iteration * num_steps, stop.iteration * num_steps
    iterations = stop.iteration - snapshot.iteration
    members, metrics = the.engine.chunk(
        the.configs, snapshot.members, begin, iterations
    )
    if stop.evaluate or _all_done(the.config, metrics):
        metrics |= the.engine.evaluate(the.configs, members, end)
    if diagnostics.is_on(the.config):
        metrics |= the.engine.diagnose(the.configs, members, end)
    count = len(the.members)
    row = {name: np.asarray(value)[:count] for name, value in metrics.items()}
    env_steps = stop.iteration * steps_per_iteration(the.config)
    return Snapshot(stop.iteration, members), Row(env_steps, row)


def _all_done(config: Config, metrics: Mapping[str, Any]) -> bool:
    """Whether every member has had its episodes, where training counts them."""
    wanted = config.training.total_episodes
    if wanted is None:
        return False
    return bool(np.all(np.asarray(metrics["training/episodes"]) >= wanted))


def _result(the: Plan, snapshot: Snapshot, rows: list[Row], timing: Timing) -> Result:
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    missing = np.full(len(the.members), np.nan)
    columns = {n: [row.metrics.get(n, missing) for row in rows] for n in names}
    params = jax.device_get(evaluated(snapshot.members.agent))
    diverged_at = np.asarray(snapshot.members.diverged_at)
    indices = range(len(the.members))
    return Result(
        members=the.members,
        steps=np.array([row.step for row in rows]),
        metrics={name: np.stack(values, 1) for name, values in columns.items()},
        params=tuple(_take(params, index) for index in indices),
        diverged_at=tuple(int(diverged_at[index]) for index in indices),
        timing=timing,
        device=devices.describe(),
    )


def _take(tree: Any, index: int) -> Any:
    """One member's part of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
