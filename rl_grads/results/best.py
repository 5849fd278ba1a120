"""The best point of a sweep, and the command that runs it on fresh seeds."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.analysis import tasks
from rl_grads.analysis.statistics import iqm
from rl_grads.analysis.tasks import Estimate
from rl_grads.config import ConfigError
from rl_grads.results import groups
from rl_grads.results.points import Point, document
from rl_grads.results.runs import Runs
from rl_grads.tracking import folder, hydra_folder
from rl_grads.tracking.metrics import higher_is_better
from rl_grads.training.schema import LARGEST_SEED
from rl_grads.typing import Json

# What a point's command line says of the sweep rather than of the point.
_OWN = ("seed", "seeds", "resume", "run", "sweep", "hydra")


class Best(NamedTuple):
    """The best setting of some runs.

    Attributes:
        label: What tells it from the others.
        point: One of its points.
        found: The interquartile mean of its final values.
        of: The number of settings.
    """

    label: str
    point: Point
    found: Estimate
    of: int


def best(runs: Runs, metric: str) -> Best:
    """The setting with the best interquartile mean; runs with other seeds are pooled.

    Args:
        runs: The runs.
        metric: By which metric.

    Raises:
        ConfigError: No end of the metric is the good one, or no point has a value.
    """
    higher = higher_is_better(metric)
    if higher is None:
        expected = "expected a metric with a good end, such as evaluation/return"
        raise ConfigError(f"--metric={metric}: {expected}")
    values, keys = runs.final_values(metric), runs.keys
    settings = groups.by_place(runs, keys)
    pools = {at: groups.pool(runs, own, values) for at, own in settings.items()}
    scores = {at: float(iqm(pool.values)) for at, pool in pools.items()}
    known = [at for at, score in scores.items() if not np.isnan(score)]
    if not known:
        raise ConfigError(f"{runs.name}: expected a point with a finite {metric}")
    sign = 1.0 if higher else -1.0
    chosen = max(known, key=lambda at: sign * scores[at])
    return Best(
        label=groups.label(keys, chosen),
        point=runs.points[settings[chosen][-1]],
        found=tasks.estimate(lambda given: iqm(given[0]), [pools[chosen].values]),
        of=len(settings),
    )


def command(point: Point, runs: Runs) -> str:
    """The command line that runs a point on as many seeds that no run has had.

    Args:
        point: The point.
        runs: All runs.

    Raises:
        ConfigError: The folder does not say by which command line it was made.
    """
    overrides = hydra_folder.overrides(point.directory)
    if not (point.directory / hydra_folder.FOLDER / "overrides.yaml").exists():
        path = f"{point.directory}/{hydra_folder.FOLDER}/overrides.yaml"
        raise ConfigError(f"{path}: expected it, from rl-grads train")
    kept = [line for line in overrides if _key(line) not in _OWN]
    count = len(point.seeds)
    seed = fresh(count, [seed for one in runs.points for seed in one.seeds])
    own = [f"seed={seed}", f"seeds={count}"]
    return shlex.join(["rl-grads", "train", *_options(point), *kept, *own])


def _key(override: str) -> str:
    """The first part of an override's key."""
    return override.partition("=")[0].lstrip("+~").partition(".")[0]


def fresh(count: int, used: Sequence[int]) -> int:
    """The first of so many seeds in a row that are not used: behind all, or between.

    Example:
        >>> fresh(10, [0, 1, 2]), fresh(2, [0, 3, 2**32 - 1])
        (3, 1)
    """
    behind = max(used) + 1
    if behind + count - 1 <= LARGEST_SEED:
        return behind
    ends = sorted({-1, *used})
    pairs = zip(ends, [*ends[1:], LARGEST_SEED + 1], strict=True)
    return next(low + 1 for low, high in pairs if high - low > count)


def _options(point: Point) -> list[str]:
    """The options that the run was made with."""
    run = document(point.directory / folder.RUN)
    plugins: Json = run.get("plugins")
    config_dir: Json = run.get("config_dir")
    names = plugins if isinstance(plugins, list) else []
    found = [w for name in names if isinstance(name, str) for w in ("--plugin", name)]
    if isinstance(config_dir, str):
        found += ["--config-dir", config_dir]
    return found
