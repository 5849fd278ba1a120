"""The points of a sweep: composed once per tuple of choices, then changed in place.

Composing a command line takes Hydra a tenth of a second. Points that differ in plain
values alone share one composition; where they differ in numbers alone, they share the
checked config as well, in which each has its own.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rl_grads.cli import compose
from rl_grads.cli.errors import KNOWN, declared, explain, shorten_value
from rl_grads.cli.hydra_private import (
    BasicSweeper,
    ConfigLoaderImpl,
)
from rl_grads.config import ConfigError, Field, canonical, nearest, replace, walk
from rl_grads.search import spaces
from rl_grads.training.schema import Config
from rl_grads.typing import Value

# What a text of a config may refer to and still not change with a point's numbers.
_STEADY = re.compile(r"\$\{(hydra|now|oc\.env|with_replay):[^{}]*\}")


class Point(NamedTuple):
    """A point of a sweep.

    Attributes:
        overrides: Its command line, a value for every key that is swept.
        config: Its checked config; None where it is refused.
        refused: Why.
        composed: The config as Hydra composed it, plain values, nothing resolved.
        hydra: Hydra's own section, likewise.
        choices: The file that was chosen for each group.
        unresolved: Dotted key to the text of a value that reads the environment.
    """

    overrides: tuple[str, ...]
    config: Config | None
    refused: str
    composed: Mapping[str, Any]
    hydra: Mapping[str, Any]
    choices: Mapping[str, str]
    unresolved: Mapping[str, str]


class Sources(NamedTuple):
    """What composes.

    Attributes:
        loader: Hydra's.
        master: The composed config of the whole sweep, Hydra's section included.
    """

    loader: Any
    master: DictConfig


def split(sources: Sources, overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides of every point: all combinations of what is swept.

    Args:
        sources: What composes; `hydra.sweeper.params` are part of the sweep.
        overrides: The command line's, in Hydra's grammar.

    Raises:
        HydraException: A sweep is of a kind that has no values.
    """
    parsed = _parsed(sources, overrides)
    if _method(sources) != "grid":
        return _drawn(sources, parsed)
    compose.check_values(parsed)
    return [tuple(point) for point in BasicSweeper.split_arguments(parsed, None)[0]]


def _method(sources: Sources) -> str:
    """The name of what chooses the points."""
    return str(sources.master.hydra.runtime.choices.get("sweep", "grid"))


_PLACES = {"random": spaces.random_places, "sobol": spaces.sobol_places}


def _drawn(sources: Sources, parsed: Sequence[Override]) -> list[tuple[str, ...]]:
    """The points that a search draws from what is swept, beside what is not."""
    known = declared()
    swept = [override for override in parsed if override.is_sweep_override()]
    fixed = [
        f"{o.get_key_element()}={o.get_value_element_as_str()}"
        for o in parsed
        if not o.is_sweep_override()
    ]
    if not swept:
        method = _method(sources)
        expected = "expected a key to draw, such as optimizer.learning_rate="
        raise ConfigError(f"sweep={method}: {expected}interval(1e-4,1e-2)")
    dimensions = [_dimension(override, known) for override in swept]
    how = sources.master.sweep
    places = _PLACES[_method(sources)](how.points, len(dimensions), how.seed)
    return [(*fixed, *point) for point in spaces.draw(dimensions, places)]


def _dimension(override: Override, known: Mapping[str, Field]) -> spaces.Dimension:
    """What is drawn for a key: one of some values, or a number of an interval."""
    key, value = override.get_key_element(), override.value()
    if not isinstance(value, IntervalSweep):
        return spaces.Choice(
            tuple(f"{key}={option}" for option in override.sweep_string_iterator())
        )
    given, field = shorten_value(str(override.input_line)), known.get(key)
    if field is None:
        raise ConfigError(f"{given}: expected a key with numbers{nearest(key, known)}")
    low, high = value.start, value.end
    if low is None or high is None or not low < high:
        raise ConfigError(f"{given}: expected two numbers, the lower one first")
    for end in (low, high):
        if end not in field.domain:
            raise ConfigError(f"{given}: expected ends in the domain, {field.domain}")
    log = "log" in value.tags or (low > 0 and spaces.is_scale(field.domain))
    return spaces.Range(key, float(low), float(high), log, field.type is int)


def swept(sources: Sources, overrides: Sequence[str]) -> set[str]:
    """The keys that take several values."""
    parsed = _parsed(sources, overrides)
    return {o.get_key_element() for o in parsed if o.is_sweep_override()}


def _parsed(sources: Sources, overrides: Sequence[str]) -> list[Override]:
    """The overrides of the config, those that its files ask for among them."""
    params = sources.master.hydra.sweeper.get("params") or {}
    files = [f"{key}={value}" for key, value in params.items()]
    parser = OverridesParser.create(sources.loader)
    parsed = parser.parse_overrides([*files, *overrides])
    return [override for override in parsed if not override.is_hydra_override()]


def compose_all(sources: Sources, points: Sequence[Sequence[str]]) -> Iterator[Point]:
    """Compose every point.

    Args:
        sources: What composes.
        points: Their overrides.

    Raises:
        HydraException: No point of that kind can be composed (a choice that is not
            there, say); a value outside its domain is told by the point itself.
    """
    bases: dict[tuple[str, ...], _Base] = {}
    parser = OverridesParser.create(sources.loader)
    for overrides in points:
        parsed = parser.parse_overrides(list(overrides))
        structural = [o for o in parsed if _is_structural(sources, o)]
        key = tuple(str(override.input_line) for override in structural)
        if key not in bases:
            bases[key] = _Base(sources, key)
        yield bases[key].point(tuple(overrides), parsed)


def _is_structural(sources: Sources, override: Override) -> bool:
    """Whether it decides which files are composed; Hydra's own rule."""
    if override.is_hydra_override() or override.package is not None:
        return True
    is_group = sources.loader.repository.group_exists(override.key_or_group)
    return is_group and not isinstance(override.value(), dict)


class _Base:
    """What the points of one tuple of choices share."""

    def __init__(self, sources: Sources, structural: Sequence[str]):
        whole = sources.loader.load_sweep_config(sources.master, list(structural))
        self._hydra: Any = OmegaConf.to_container(whole.hydra, resolve=False)
        self._names = whole.hydra.job.config.override_dirname
        self._task = compose.without_hydra(whole)
        self._whole = whole
        self._structural = set(structural)
        self._first: _First | None = None
        self._unresolved: Mapping[str, str] | None = None
        plain: Any = OmegaConf.to_container(self._task, resolve=False)
        self._steady = not any("${" in _STEADY.sub("", text) for text in _texts(plain))

    def point(self, overrides: tuple[str, ...], parsed: Sequence[Override]) -> Point:
        """A point; the values of an earlier one are written over by its own."""
        plain = [o for o in parsed if str(o.input_line) not in self._structural]
        HydraConfig.instance().set_config(self._whole)
        OmegaConf.set_struct(self._task, True)
        ConfigLoaderImpl._apply_overrides_to_config(list(plain), self._task)
        if self._unresolved is None or _refers(plain) or not self._steady:
            self._unresolved = compose.environment_values(self._task)
        config, refused = self._checked(plain, overrides)
        composed: Any = OmegaConf.to_container(self._task, resolve=False)
        return Point(
            overrides=overrides,
            config=config,
            refused=refused,
            composed=composed,
            hydra=self._section(overrides, parsed),
            choices=_choices(self._hydra["runtime"]["choices"]),
            unresolved=self._unresolved,
        )

    def _checked(
        self, plain: Sequence[Override], overrides: Sequence[str]
    ) -> tuple[Config | None, str]:
        """The config, or why there is none."""
        try:
            steady = self._steady and not _refers(plain)
            if self._first is not None and steady:
                changed = [o for o in plain if o.input_line not in self._first.lines]
                if all(_sets_number(o, self._first.fields) for o in changed):
                    values = {str(o.key_or_group): o.value() for o in changed}
                    return canonical(replace(self._first.config, values)), ""
            config = compose.to_config(self._task.copy())
        except KNOWN as error:
            return None, explain(error, overrides)
        declared = {path: field for path, field, _ in walk(config)}
        lines = {str(override.input_line) for override in plain}
        self._first = _First(config, lines, declared)
        return config, ""

    def _section(
        self, overrides: Sequence[str], parsed: Sequence[Override]
    ) -> dict[str, Any]:
        """Hydra's section of the point."""
        name = _dirname(parsed, self._names)
        job = {**self._hydra["job"], "override_dirname": name}
        task = {**self._hydra["overrides"], "task": list(overrides)}
        own = {"job": job, "overrides": task, "mode": RunMode.MULTIRUN.name}
        return {**self._hydra, **own}


def _dirname(overrides: Sequence[Override], names: DictConfig) -> str:
    """What `hydra.job.override_dirname` is to be; private in every version of Hydra."""
    own = (o for o in overrides if not o.is_hydra_override())
    named = (str(o.input_line) for o in own if o.key_or_group not in names.exclude_keys)
    return names.item_sep.join(sorted(named)).replace("=", names.kv_sep)


class _First(NamedTuple):
    """A checked config: the lines that made it what it is, and its fields by path."""

    config: Config
    lines: set[str]
    fields: Mapping[str, Field]


def _sets_number(override: Override, known: Mapping[str, Field]) -> bool:
    """Whether it sets a number of a config, and does nothing else."""
    field, value = known.get(str(override.key_or_group)), override.value()
    if field is None or isinstance(value, bool):
        return False
    if override.is_add() or override.is_delete() or override.is_force_add():
        return False
    return isinstance(value, int | float) and (field.is_leaf or field.type is int)


def _refers(overrides: Sequence[Override]) -> bool:
    """Whether a value is taken from elsewhere; in the line itself it is escaped."""
    return any("${" in str(override.value()) for override in overrides)


def _texts(value: Value) -> Iterator[str]:
    """Every text inside a plain value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        yield from itertools.chain.from_iterable(map(_texts, value))
    elif isinstance(value, str):
        yield value


def _choices(choices: Mapping[str, Value]) -> dict[str, str]:
    """The file that was chosen for each group of ours."""
    return {k: v for k, v in choices.items() if isinstance(v, str) and "hydra" not in k}


def check_seeds(points: Sequence[Point], alike: Sequence[str]) -> None:
    """Refuse points that differ in their seeds alone and have a seed in common.

    Such a seed would be trained twice and counted as two.

    Args:
        points: The points.
        alike: Of each, what it shares with those that differ in their seeds alone.

    Raises:
        ConfigError: Names both ranges.
    """
    ranges: dict[str, list[tuple[int, int]]] = {}
    for point, key in zip(points, alike, strict=True):
        if point.config is not None:
            first, count = point.config.seed, point.config.seeds
            ranges.setdefault(key, []).append((first, first + count - 1))
    for group in ranges.values():
        for (first, last), (start, stop) in itertools.pairwise(sorted(group)):
            if start <= last:
                expected = f"expected ranges without a common seed ({first} to {last}"
                raise ConfigError(f"seed={start}: {expected}, {start} to {stop})")
