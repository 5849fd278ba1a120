"""`rg.train`: populations of members, with files or without."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from rl_grads import config as configs
from rl_grads.agents.agent import Agent
from rl_grads.envs.environment import Environment
from rl_grads.tracking import folder
from rl_grads.training import (
    continuing,
    places,
    provenance,
    run,
    session,
    stopping,
)
from rl_grads.training.engine import Given
from rl_grads.training.places import Group
from rl_grads.training.population import Member, population
from rl_grads.training.result import Result, join
from rl_grads.training.run import Callback
from rl_grads.training.schema import Config
from rl_grads.training.setup import Job, Setup
from rl_grads.typing import PyTree


def train(
    agent: Agent | None = None,
    env: Environment | str | None = None,
    members: Sequence[Member] | None = None,
    *,
    total_steps: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    callback: Callback | None = None,
) -> Result:
    """Train a population.

    An interrupt (Ctrl-C) ends training at the next moment at which everything is
    whole, and what there is by then is returned; a second one ends at once.

    Args:
        agent: An agent; None: the one that each config names.
        env: An environment, or its id; None: the one that each config names.
        members: Configs and seeds, from `population`; by default the default config.
        total_steps: Environment steps per member, instead of the configs' own.
        run_dir: Folder for configs, metrics, summary and trackers, one below it for
            every config where they differ; None writes nothing.
        callback: `callback(step, metrics)`, called between rows: the environment step
            of the last one, and its metrics by name, `[members]` each. What it raises
            ends training, and with `run_dir` the rows until then are on the disk.

    Returns:
        The metrics of every member over time, and the final parameters.

    Raises:
        ConfigError: A config does not fit, or the folder holds a run already.

    Example:
        >>> import rl_grads as rg
        >>> config = rg.Config()
        >>> members = rg.population(config, seeds=range(3))
        >>> result = rg.train(env="gymnax/CartPole-v1", members=members)
        >>> result.metrics["evaluation/return"].shape  # [members, time]
        (3, 99)
    """
    members = population(Config()) if members is None else tuple(members)
    changes: dict[str, Any] = {}
    if total_steps is not None:
        changes["training.total_steps"] = total_steps
    if isinstance(env, str):
        changes["env.id"] = env
    given = Given(agent, None if isinstance(env, str) else env)
    members = continuing.keep_schedules(_changed(members, changes))
    request = Request(given, members, provenance.of_this_process(), callback)
    with stopping.on_interrupt() as halted:
        if run_dir is None:
            return train_all(request, None, halted)
        with claimed(pathlib.Path(run_dir), members[0].config) as home:
            return train_all(request, home, halted)


@contextlib.contextmanager
def claimed(home: pathlib.Path, config: Config) -> Iterator[pathlib.Path]:
    """A run's folder for this process alone, while it lasts.

    Args:
        home: The folder; created where it is not there.
        config: Says whether a run goes on in it (`resume`), or takes its place
            (`run.overwrite`).

    Raises:
        ConfigError: It holds a run, or a living process works in it.
    """
    going_on = config.resume is not None and _same(home, pathlib.Path(config.resume))
    with folder.claimed(home, going_on, config.run.overwrite):
        yield home


def _same(path: pathlib.Path, other: pathlib.Path) -> bool:
    return path.resolve() == other.resolve()


class Request(NamedTuple):
    """What is to be trained.

    Attributes:
        given: Agent and environment, where they do not come from the config.
        members: The members, of any structures.
        origin: How it was started, for `run.json`.
        callback: Called between rows; or None.
    """

    given: Given
    members: Sequence[Member]
    origin: provenance.Origin
    callback: Callback | None = None


def train_all(
    request: Request, home: pathlib.Path | None, halted: Callable[[], bool]
) -> Result:
    """Train members of any structures, a population for each.

    Args:
        request: What is to be trained.
        home: Where everything is written, claimed; None writes nothing.
        halted: Whether somebody has asked to stop.

    Raises:
        EnvironmentFailed: An environment on the host has raised something; `result` is
            what there was until then.
    """
    members, resume = request.members, request.members[0].config.resume
    groups = places.lay_out(members, home)
    sources = places.lay_out(members, None if resume is None else pathlib.Path(resume))
    return train_groups(request, groups, [source.home for source in sources], halted)


def train_groups(
    request: Request,
    groups: Sequence[Group],
    sources: Sequence[pathlib.Path | None],
    halted: Callable[[], bool],
) -> Result:
    """Train populations that are laid out already.

    Args:
        request: What is to be trained.
        groups: Its populations.
        sources: The folder whose state each continues; None: it begins.
        halted: Whether somebody has asked to stop.

    Raises:
        EnvironmentFailed: As `train_all`.
    """
    members, results, order = request.members, [], []
    job = Job(len(members), request.origin.swept or places.telling(members))
    for group, source in zip(groups, sources, strict=True):
        if not results or results[-1].halted_at is None:
            own = [members[i] for i in group.members]
            setup = Setup(
                request.given,
                own,
                group,
                request.origin,
                job,
                source,
                request.callback,
            )
            order += group.members
            results.append(_train_group(setup, halted))
    result = join(results, order)
    if result.failure is not None:
        result.failure.result = result
        raise result.failure
    return result


def _train_group(setup: Setup, halted: Callable[[], bool]) -> Result:
    """Train one population, in its own precision whatever JAX's default is."""
    config = setup.members[0].config
    with jax.enable_x64(config.precision == "float64"):
        if setup.group.home is not None:
            return session.record(setup, halted)
        plan = run.plan_for(setup.given, setup.members)
        hooks = run.NO_HOOKS._replace(halted=halted, callback=setup.callback)
        return run.result(plan, run.train_from(plan, run.start(plan), hooks))


def _changed(members: Sequence[Member], changes: Mapping[str, PyTree]) -> list[Member]:
    """The members with changed configs; what shared a config still does."""
    changed = {
        key: configs.canonical(configs.replace(config, changes))
        for key, config in {id(m.config): m.config for m in members}.items()
    }
    return [Member(changed[id(m.config)], m.seed) for m in members]
