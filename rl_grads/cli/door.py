"""The door of the command line: what is refused before a file is written."""

import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from rl_grads.cli import compose, places
from rl_grads.cli.hydra_private import BasicSweeper
from rl_grads.config import ConfigError, shorten
from rl_grads.training.schema import Config
from rl_grads.typing import Value

_TRUSTED = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")
_CALLS = ("_target_", "()", "class")


def check(
    request: compose.Request, fits: Callable[[Config], None]
) -> DictConfig | None:
    """Refuse a command line that cannot work.

    Args:
        request: The command line.
        fits: Refuses a config whose parts do not fit each other.

    Returns:
        What Hydra composed, its own section included; None where nothing is composed.

    Raises:
        ConfigError: And what Hydra and OmegaConf raise; see `errors.explain`.
    """
    if not (request.runs or request.flags.cfg == "job"):
        return None
    with compose.composer(request) as composed:
        if request.multirun:
            return _check_sweep(request, composed)
        return _check_run(request, composed, fits)


def _check_run(
    request: compose.Request, composed: compose.Compose, fits: Callable[[Config], None]
) -> DictConfig:
    whole = composed(request.flags.overrides, False)
    refuse_code(whole.hydra)
    config = compose.to_config(compose.without_hydra(whole))
    if request.runs:
        places.check_id(whole, places.RUN)
        fits(config)
        _check_directory(places.RUN, whole)
    return whole


def _check_sweep(request: compose.Request, composed: compose.Compose) -> DictConfig:
    whole = composed(request.flags.overrides, True)
    refuse_code(whole.hydra)
    sweeper = whole.hydra.runtime.choices["hydra/sweeper"]
    if sweeper == "basic":  # Ours checks its own points.
        params = whole.hydra.sweeper.get("params") or {}
        swept = [f"{key}={value}" for key, value in params.items()]
        check_seeds(points([*swept, *request.flags.overrides]), composed)
    places.check_id(whole, places.SWEEP)
    _check_resume(whole)
    _check_directory(places.SWEEP, whole)
    return whole


def _check_resume(whole: DictConfig) -> None:
    """A sweep goes on as a whole, under its name."""
    resume = whole.get("resume")
    named = "now:" not in str(whole.run._get_node("id")._value())
    if resume is not None and not (resume == "auto" and named):
        expected = "expected without -m, for one run; a sweep goes on with"
        raise ConfigError(f"resume={resume}: {expected} run.id=NAME resume=auto")


def _check_directory(key: str, whole: DictConfig) -> None:
    """Try to write in the directory, or in the one that will hold it."""
    path = pathlib.Path(str(OmegaConf.select(whole, key)))
    try:
        there = (
            place for place in (path, *path.absolute().parents) if _is_there(place)
        )
        with tempfile.TemporaryFile(dir=next(there)):
            return
    except OSError as error:
        reason = error.strerror or type(error).__name__
        expected = f"expected a directory that can be written ({reason})"
        raise ConfigError(f"{key}={shorten(str(path))}: {expected}") from error


def _is_there(path: pathlib.Path) -> bool:
    """Whether a path exists; unlike `exists`, it says where a name is too long."""
    try:
        return bool(path.lstat())
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------------ foreign code


def refuse_code(node: DictConfig) -> None:
    """Refuse a Hydra section that would call anything but Hydra and logging.

    A config is data: code is named on the command line, by `--plugin`.

    Raises:
        ConfigError: Names the key and what it would call.
    """
    for key in node.get("callbacks") or {}:
        raise ConfigError(f"hydra.callbacks.{key}: expected no callbacks in a config")
    for path, name in _calls(node, "hydra"):
        if not name.startswith(_TRUSTED):
            expected = "expected a class of Hydra, of a Hydra plugin or of logging"
            raise ConfigError(f"{path}={name}: {expected}")


def _calls(node: Value, path: str) -> Iterator[tuple[str, str]]:
    """Every dotted name below a node that something would import and call."""
    if isinstance(node, DictConfig) and not node._is_none():
        for key in node:
            inner = None if OmegaConf.is_missing(node, key) else node._get_node(key)
            if key in _CALLS and inner is not None:
                yield f"{path}.{key}", str(node[key])
            yield from _calls(inner, f"{path}.{key}")
    elif isinstance(node, ListConfig):
        for index in range(len(node)):
            yield from _calls(node._get_node(index), f"{path}[{index}]")


# ------------------------------------------------------------------------------- seeds


def points(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every point of a sweep."""
    loader = GlobalHydra.instance().config_loader()  # For glob().
    parsed = OverridesParser.create(loader).parse_overrides(list(overrides))
    own = [override for override in parsed if not override.is_hydra_override()]
    return BasicSweeper.split_arguments(own, None)[0]


def swept(overrides: Sequence[str]) -> tuple[str, ...]:
    """The keys of the overrides that take several values."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return tuple(o.get_key_element() for o in parsed if o.is_sweep_override())


def check_seeds(all_points: Sequence[Sequence[str]], composed: compose.Compose) -> None:
    """Refuse points that differ in their seeds alone and have a seed in common.

    Such a seed would be trained twice and counted as two.

    Raises:
        ConfigError: Names both ranges.
    """
    alike: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for point in all_points:
        rest = tuple(o for o in point if not o.startswith(("seed=", "seeds=")))
        alike.setdefault(rest, []).append(point)
    for group in alike.values():
        if len(group) > 1:
            _check_disjoint([composed(point, False) for point in group])


def _check_disjoint(configs: Sequence[DictConfig]) -> None:
    ranges = sorted((c.seed, c.seed + c.seeds - 1) for c in configs)
    for (first, last), (start, stop) in itertools.pairwise(ranges):
        if start <= last:
            expected = f"expected ranges without a common seed ({first} to {last}"
            raise ConfigError(f"seed={start}: {expected}, {start} to {stop})")
