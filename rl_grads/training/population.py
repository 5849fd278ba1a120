"""Populations: members whose configs share one structure, stacked and keyed.

A population is a list of members, each a config and a seed. Members with the same
structure (`population_key`) train in one compiled program.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads import config as configs
from rl_grads.tracking.schema import Tracking
from rl_grads.training.schema import Checkpoint, Config, RunSection


class Member(NamedTuple):
    """One training run: a config and the seed of all its randomness."""

    config: Config
    seed: int


def population(
    config: Config,
    seeds: Iterable[int] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[Member, ...]:
    """Every combination of the swept values, with every seed.

    Args:
        config: The config that all members share but for the swept values.
        seeds: Seeds of the members; by default those that the config names.
        sweep: Dotted path to the values it takes.

    Returns:
        Members, seeds varying fastest.

    Raises:
        ConfigError: An unknown path, a value outside its domain, a repeated seed, or
            one outside [0, 2^32).

    Example:
        >>> members = population(
        ...     Config(), seeds=range(2), sweep={"optimizer.learning_rate": [0.1, 0.01]}
        ... )
        >>> [(m.seed, m.config.optimizer.learning_rate) for m in members]
        [(0, 0.1), (1, 0.1), (0, 0.01), (1, 0.01)]
    """
    sweep = dict(sweep or {})
    if seeds is None:
        seeds = range(config.seed, config.seed + config.seeds)
    seeds = _distinct(seeds)
    points = [
        configs.canonical(
            configs.replace(config, dict(zip(sweep, values, strict=True)))
        )
        for values in itertools.product(*sweep.values())
    ]
    return tuple(Member(point, seed) for point in points for seed in seeds)


def _distinct(seeds: Iterable[int]) -> tuple[int, ...]:
    seeds = tuple(int(s) for s in seeds)
    fitting = all(0 <= s < 2**32 for s in seeds)
    if not seeds or len(set(seeds)) < len(seeds) or not fitting:
        raise configs.ConfigError(
            f"seeds={list(seeds)}: expected one or more different integers in [0, 2^32)"
        )
    return seeds


def program_part(config: Config) -> Config:
    """The config with all that does not shape the program set to its default."""
    return dataclasses.replace(
        config,
        seed=0,
        seeds=1,
        resume=None,
        run=RunSection(),
        tracking=Tracking(),
        checkpoint=Checkpoint(),
    )


def population_key(config: Config) -> Any:
    """What two configs must share to train in one program: the tree's structure."""
    configs.as_pytree()
    return jax.tree.structure(program_part(config))


def split(members: Sequence[Member]) -> list[list[int]]:
    """Indices of the members of each population, in order of first appearance."""
    unique = {id(m.config): m.config for m in members}
    keys = {number: population_key(config) for number, config in unique.items()}
    groups: dict[Any, list[int]] = {}
    for index, member in enumerate(members):
        groups.setdefault(keys[id(member.config)], []).append(index)
    return list(groups.values())


def stack(members: Sequence[Member]) -> Config:
    """The members' configs as one config whose leaves have a leading member axis."""
    configs.as_pytree()
    dtype = np.dtype(members[0].config.precision)
    unique = {id(m.config): program_part(m.config) for m in members}
    place = {key: index for index, key in enumerate(unique)}
    which = np.array([place[id(m.config)] for m in members])
    return jax.tree.map(
        lambda *leaves: np.asarray(leaves, dtype)[which], *unique.values()
    )
