"""The values of one key against each other, like with like in all other keys."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rl_grads.analysis import tasks
from rl_grads.analysis.tasks import Estimate
from rl_grads.config import ConfigError, nearest
from rl_grads.results import groups
from rl_grads.results.groups import ENVIRONMENT, Place
from rl_grads.results.references import normalised, reference
from rl_grads.results.runs import Runs
from rl_grads.tracking.metrics import higher_is_better

_ALL_PAIRS = 4  # With more values each is compared with the first.
FINAL, AREA = "final value", "area under curve"


class Effect(NamedTuple):
    """What one value does in the place of another, to one quantity.

    Attributes:
        improvement: How likely one of its runs beats one of the other's.
        difference: Of the means; None where settings have no unit in common.
        p: Of a permutation test, corrected by Holm over all comparisons.
    """

    improvement: Estimate
    difference: Estimate | None
    p: float


class Pair(NamedTuple):
    """One value against another.

    Attributes:
        value: The value.
        other: What it is compared with.
        n: The runs of both.
        settings: At how many settings of the other keys both have runs.
        effects: By `FINAL` and `AREA`.
    """

    value: str
    other: str
    n: tuple[int, int]
    settings: int
    effects: Mapping[str, Effect]


class Comparison(NamedTuple):
    """All comparisons of the values of a key.

    Attributes:
        key: The key.
        metric: What is compared.
        pairs: The comparisons.
        others: Other keys in which the points differ.
        normalised: Whether differences are of normalised scores.
        repeated: How many members were left out, as their seed was run again.
    """

    key: str
    metric: str
    pairs: tuple[Pair, ...]
    others: tuple[str, ...]
    normalised: bool
    repeated: int


class _Side(NamedTuple):
    """A value of the key: by setting of the other keys, a quantity of its runs."""

    final: dict[Place, np.ndarray]
    area: dict[Place, np.ndarray]


def make(runs: Runs, metric: str, key: str, baseline: str | None = None) -> Comparison:
    """Compare the values of a key, two at a time.

    Runs are compared at equal settings of all other keys, as tasks: probabilities and
    differences are means over these settings. Over several environments differences
    are of normalised scores (see `references`).

    Args:
        runs: The runs.
        metric: What is compared.
        key: A key in which the points differ.
        baseline: The value that all others are compared with; None: every pair, or with
            more than four values each with the first.

    Raises:
        ConfigError: The points do not differ in the key, or have no such value.
    """
    groups.check_keys(runs, "--by", [key])
    others = tuple(other for other in runs.keys if other != key)
    finals, areas = runs.final_values(metric), _areas(runs, metric)
    sides: dict[str, _Side] = {}
    repeated = 0
    for (value, *setting), own in groups.by_place(runs, [key, *others]).items():
        pool = groups.pool(runs, own, finals)
        side = sides.setdefault(value, _Side({}, {}))
        side.final[tuple(setting)] = pool.values
        side.area[tuple(setting)] = groups.pool(runs, own, areas).values
        repeated += pool.repeated
    scale = _Scale.of(metric, others, [place for s in sides.values() for place in s[0]])
    chosen = _chosen(key, list(sides), baseline)
    pairs = [_pair(sides, *values, scale) for values in chosen]
    return Comparison(
        key=key,
        metric=metric,
        pairs=tuple(_corrected(pairs)),
        others=others,
        normalised=scale.many,
        repeated=repeated,
    )


def _areas(runs: Runs, metric: str) -> list[np.ndarray]:
    """The mean of a metric over training at each point, `[members]`."""
    curves = runs.curves([metric])
    return [
        found[metric].area() if metric in found else np.full(len(point.seeds), np.nan)
        for point, found in zip(runs.points, curves, strict=True)
    ]


def _chosen(
    key: str, values: Sequence[str], baseline: str | None
) -> list[tuple[str, str]]:
    """The pairs that are compared."""
    if len(values) < 2:
        told = f"every point has {values[0]}"
        raise ConfigError(f"--by={key}: expected a key that differs, {told}")
    if baseline is not None and baseline not in values:
        expected = f"expected a value of {key} ({', '.join(values)})"
        hint = nearest(baseline, values)
        raise ConfigError(f"--baseline={baseline}: {expected}{hint}")
    if baseline is None and len(values) <= _ALL_PAIRS:
        return [(second, first) for first, second in itertools.combinations(values, 2)]
    first = values[0] if baseline is None else baseline
    return [(value, first) for value in values if value != first]


class _Scale(NamedTuple):
    """In which direction scores are better, and what they are measured by.

    Attributes:
        sign: 1 where higher is better, else -1.
        at: The place of the environment among the other keys; None: there is one.
        many: Whether there is more than one environment.
    """

    sign: float
    at: int | None
    many: bool

    @classmethod
    def of(
        cls, metric: str, others: Sequence[str], settings: Sequence[Place]
    ) -> "_Scale":
        """Of a metric, and of the settings at which it is compared."""
        at = others.index(ENVIRONMENT) if ENVIRONMENT in others else None
        many = at is not None and len({place[at] for place in settings}) > 1
        return cls(-1.0 if higher_is_better(metric) is False else 1.0, at, many)

    def unit(self, values: np.ndarray, setting: Place) -> np.ndarray | None:
        """Values in a unit that all settings have; None where there is none."""
        if not self.many or self.at is None:
            return values
        by = reference(setting[self.at])
        return None if by is None else normalised(values, by)


def _pair(sides: Mapping[str, _Side], value: str, other: str, scale: _Scale) -> Pair:
    """A comparison whose p-values are not corrected yet."""
    one, two = sides[value], sides[other]
    shared = [place for place in one.final if place in two.final]
    if not shared:
        told = f"{value} and {other} have runs at no setting in common"
        raise ConfigError(f"--by: expected values to compare, {told}")
    n = tuple(sum(len(side.final[place]) for place in shared) for side in (one, two))
    return Pair(
        value=value,
        other=other,
        n=(n[0], n[1]),
        settings=len(shared),
        effects={
            FINAL: _effect(one.final, two.final, shared, scale),
            AREA: _effect(one.area, two.area, shared, scale),
        },
    )


def _effect(
    one: Mapping[Place, np.ndarray],
    other: Mapping[Place, np.ndarray],
    shared: Sequence[Place],
    scale: _Scale,
) -> Effect:
    sides, at = (one, other), shared
    scores, baseline = ([scale.sign * side[place] for place in at] for side in sides)
    units = [[scale.unit(side[place], place) for place in at] for side in sides]
    known = all(values is not None for side in units for values in side)
    return Effect(
        improvement=tasks.estimate(tasks.improvement, scores, baseline),
        difference=tasks.estimate(tasks.difference, *units) if known else None,
        p=tasks.permutation_p(scores, baseline),
    )


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """The same with Holm's correction, for each quantity by itself."""
    p = {k: tasks.holm([pair.effects[k].p for pair in pairs]) for k in (FINAL, AREA)}
    return [
        pair._replace(
            effects={
                name: effect._replace(p=float(p[name][k]))
                for name, effect in pair.effects.items()
            }
        )
        for k, pair in enumerate(pairs)
    ]
