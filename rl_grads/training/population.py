"""Populations: members whose configs share one structure, stacked and keyed.

A population is a list of members, each a config and a seed. Members with the same
structure (`population_key`) train in one compiled program.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_grads import config as configs
from rl_grads.search.schema import Grid
from rl_grads.tracking.schema import Tracking
from rl_grads.training.schema import (
    LARGEST_SEED,
    MOST_MEMBERS,
    Checkpoint,
    Config,
    RunSection,
)
from rl_grads.typing import PyTree


class Member(NamedTuple):
    """One training run: a config and the seed of all its randomness."""

    config: Config
    seed: int


def population(
    config: Config,
    seeds: Iterable[int] | None = None,
    sweep: Mapping[str, Sequence[PyTree]] | None = None,
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
    points = [
        configs.canonical(
            configs.replace(config, dict(zip(sweep, values, strict=True)))
        )
        for values in itertools.product(*sweep.values())
    ]
    if seeds is None:
        check_seeds(config)
        seeds = range(config.seed, config.seed + config.seeds)
    seeds = _distinct(seeds)
    return tuple(Member(point, seed) for point in points for seed in seeds)


def check_seeds(config: Config) -> None:
    """Refuse seeds of which the last one is none.

    Raises:
        ConfigError: Names `seed` and the last value that it may have.
    """
    last = LARGEST_SEED - (config.seeds - 1)
    if config.seed > last:
        expected = f"at most {last} where seeds={config.seeds}: seeds end at 2^32 - 1"
        raise configs.ConfigError(f"seed={config.seed}: expected {expected}")


def _distinct(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds as they were given."""
    seeds = tuple(int(s) for s in itertools.islice(seeds, MOST_MEMBERS + 1))
    wrong = next((s for s in seeds if not 0 <= s <= LARGEST_SEED), None)
    if wrong is not None:
        expected = f"expected integers in [0, {LARGEST_SEED}]"
        raise configs.ConfigError(f"seeds={configs.shown(wrong)}: {expected}")
    if not seeds or len(set(seeds)) < len(seeds) or len(seeds) > MOST_MEMBERS:
        expected = f"expected 1 to {MOST_MEMBERS} different integers"
        raise configs.ConfigError(f"seeds={configs.shown(list(seeds))}: {expected}")
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
        sweep=Grid(),
    )


def population_key(config: Config) -> PyTree:
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


def check_precision(config: Config) -> None:
    """Refuse numbers that the program would take for zero or infinity.

    Raises:
        ConfigError: Names the number and what the precision can hold.
    """
    limits = np.finfo(config.precision)
    low, high = float(limits.smallest_normal), float(limits.max)
    for path, value in configs.leaves(config):
        if value != 0 and math.isfinite(value) and not low <= abs(value) <= high:
            raise configs.ConfigError(
                f"{path}={value!r}: expected 0 or a size from {low:.2g} to {high:.2g}, "
                f"which precision={config.precision} can hold"
            )


def stack(members: Sequence[Member]) -> Config:
    """The members' configs as one config whose leaves have a leading member axis.

    Raises:
        ConfigError: A number is beyond the precision, see `check_precision`.
    """
    configs.as_pytree()
    dtype = np.dtype(members[0].config.precision)
    unique = {id(m.config): program_part(m.config) for m in members}
    for config in unique.values():
        check_precision(config)
    place = {key: index for index, key in enumerate(unique)}
    which = np.array([place[id(m.config)] for m in members])
    return jax.tree.map(
        lambda *leaves: np.asarray(leaves, dtype)[which], *unique.values()
    )
