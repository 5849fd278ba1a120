"""`resume=RUN`: a run goes on in its own folder, or begins a new one from its state.

What the folder says is read as plain data (`training.recorded`). The command line is
composed by itself, on the run's schemas, and the keys that it names are laid over the
recorded config. Where the mirrors are is never taken from a folder.
"""

import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from rl_grads.cli import compose
from rl_grads.config import ConfigError, get, replace, schema_name, shorten
from rl_grads.config.document import to_document
from rl_grads.tracking import folder, lease
from rl_grads.training.schema import Config

if TYPE_CHECKING:  # It imports JAX, which a command line that is refused need not.
    from rl_grads.training.places import Group
    from rl_grads.training.population import Member
    from rl_grads.training.recorded import Recorded

_LOG = logging.getLogger(__name__)
AUTO = "auto"
_ELSEWHERE = ("tracking.wandb.mode", "tracking.wandb.entity", "tracking.wandb.project")
_OPEN = ("agent", "network", "optimizer", "meta.optimizer", "replay")
_TOLD = 5  # Folders of which `auto` says why they were passed over.


class Continued(NamedTuple):
    """A run to go on with.

    Attributes:
        config: Its config, with `resume` the folder of the state.
        seeds: One per member.
        home: Where it writes.
        choices: The file that was chosen for each group.
        unresolved: Keys of the command line whose values read the environment.
        whole: The population of several points that goes on as a whole; None where
            the run has members of one config.
    """

    config: Config
    seeds: tuple[int, ...]
    home: pathlib.Path
    choices: Mapping[str, str]
    unresolved: Mapping[str, str]
    whole: "Whole | None" = None


class Whole(NamedTuple):
    """A population of several points: its members, with their folders."""

    members: Sequence["Member"]
    group: "Group"


def asked(overrides: Sequence[str]) -> str | None:
    """The value of `resume=` on a command line; None where nothing is resumed."""
    found = [o.partition("=")[2] for o in overrides if o.startswith("resume=")]
    return found[-1].strip("'\"") if found and found[-1] not in ("null", "") else None


def without(request: compose.Request) -> compose.Request:
    """The same command line for a run that begins."""
    return compose.read([a for a in request.argv if not a.startswith("resume=")])


def read(request: compose.Request) -> Continued | None:
    """The run that a command line with `resume=` goes on with.

    Args:
        request: The command line, parsed.

    Returns:
        None where `resume=auto run.id=NAME` finds no such run: it begins.

    Raises:
        ConfigError: There is no such run, or a key may not be given; also what Hydra
            and OmegaConf raise, see `errors.explain`.
    """
    from rl_grads.training import recorded

    overrides = OverridesParser.create().parse_overrides(list(request.flags.overrides))
    _check_plain(overrides)
    name = asked(request.flags.overrides)
    wanted = _run_id(overrides)
    if name == AUTO and wanted is not None:
        return _requeued(request, wanted)
    source = pathlib.Path(str(_newest() if name == AUTO else name))
    try:
        found = recorded.read(source)
    except ConfigError as error:
        named = str(error).startswith((f"{source}:", shorten(str(source))))
        raise ConfigError(f"resume={error}" if named else str(error)) from None
    config, unresolved = _changed(request, found, overrides)
    home = source if wanted is None else _runs() / wanted
    config = replace(config, {"resume": str(source)})
    seeds = _seeds(config, found, overrides)
    whole = None
    if wanted is None and len(found.points) > 1:
        home, whole = found.home, _whole(found, config)
    return Continued(config, seeds, home, found.choices, unresolved, whole)


def _whole(found: "Recorded", config: Config) -> Whole:
    """All points of the population, changed as the named one is (`resume` as well)."""
    from rl_grads.training import recorded
    from rl_grads.training.places import Group
    from rl_grads.training.population import Member

    before, now = to_document(found.config), to_document(config)
    changes = {k: get(config, k) for k, v in now.items() if before.get(k, v) != v}
    members = [
        Member(replace(member.config, changes), member.seed)
        for member in recorded.population(found)
    ]
    return Whole(members, Group(list(range(len(members))), found.home, found.points))


def _seeds(
    config: Config, found: "Recorded", overrides: Sequence[Override]
) -> tuple[int, ...]:
    """The run's own, or those that the command line names (which do not fit then)."""
    named = any(override.key_or_group in ("seed", "seeds") for override in overrides)
    whole = tuple(range(config.seed, config.seed + config.seeds))
    return whole if named else found.seeds


def _runs() -> pathlib.Path:
    return pathlib.Path("runs")


def _check_plain(overrides: Sequence[Override]) -> None:
    """Refuse what would change where or how Hydra works: nothing of it is used."""
    for override in overrides:
        if override.is_hydra_override() or override.is_delete():
            expected = "expected KEY=VALUE of the config beside resume"
            raise ConfigError(f"{override.input_line}: {expected}")


def _run_id(overrides: Sequence[Override]) -> str | None:
    for override in overrides:
        if override.key_or_group == "run.id":
            name = str(override.value())
            folder.check_id(name)
            return name
    return None


# ---------------------------------------------------------------------- which run it is


def _requeued(request: compose.Request, name: str) -> Continued | None:
    """The same command once more: the run of that name with the command's config."""
    home = _runs() / name
    if not folder.holds_results(home):  # At most what Hydra writes before a run.
        return None
    from rl_grads.training import recorded

    found = recorded.read(home)
    own = [o for o in request.flags.overrides if not o.startswith("resume=")]
    with compose.composer(request) as composed:
        whole = compose.without_hydra(composed(own, False))
        unresolved = compose.environment_values(whole)
        config = compose.to_config(whole)
    config = replace(config, {"resume": str(home)})
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    return Continued(config, seeds, home, found.choices, unresolved)


def _newest() -> pathlib.Path:
    """The newest run below `runs/` that can be resumed; says which and why not others.

    Raises:
        ConfigError: There is none.
    """
    files = sorted(_runs().glob(f"**/{folder.ROWS}"), key=_age, reverse=True)
    reasons: list[str] = []
    for directory in (path.parent for path in files):
        reason = _obstacle(directory)
        if reason is None:
            _tell_passed(directory, reasons)
            return directory
        reasons.append(f"{directory}: {reason}")
    told = "".join(f"\n  {reason}" for reason in reasons[:_TOLD])
    raise ConfigError(
        "resume=auto: expected an unfinished run below runs/ with a checkpoint, in "
        f"which no process works{told}"
    )


def _age(path: pathlib.Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _obstacle(directory: pathlib.Path) -> str | None:
    """Why a run cannot be resumed; None if it can."""
    from rl_grads.training import recorded
    from rl_grads.training.continuing import has_checkpoint

    if (directory / folder.SUMMARY).exists():
        return "finished"
    if not has_checkpoint(directory):
        return "has no checkpoint"
    held = lease.holder(directory)
    if held is not None:
        return f"{held} works in it"
    try:
        recorded.read(directory)
    except ConfigError as error:
        return str(error)
    return None


def _tell_passed(directory: pathlib.Path, reasons: Sequence[str]) -> None:
    _LOG.warning("resume=auto: %s", directory)
    for reason in reasons[:_TOLD]:
        _LOG.warning("resume=auto: not %s", reason)


# -------------------------------------------------------------- what it is now told


def _changed(
    request: compose.Request, found: "Recorded", overrides: Sequence[Override]
) -> tuple[Config, Mapping[str, str]]:
    """The recorded config with the keys of the command line."""
    keys = [key for key in _keys(overrides, found) if key not in ("resume", "run.id")]
    _check_asks(found, keys)
    own = _without_known_choices(overrides, found)
    with compose.composer(request) as composed:
        whole = compose.without_hydra(
            composed([*_schemas(found.config, own), *own], False)
        )
        unresolved = compose.environment_values(whole)
        told = compose.to_config(whole)
    _tell_mirrors(found.config, told)
    changes = {key: get(told, key) for key in (*keys, *_ELSEWHERE)}
    return replace(found.config, changes), unresolved


def _keys(overrides: Sequence[Override], found: "Recorded") -> Iterator[str]:
    """The keys, or sections, that overrides name."""
    for override in overrides:
        key = override.key_or_group
        if key == "experiment" and found.choices.get(key) != override.value():
            expected = f"expected {found.choices.get(key)}, as the run was made"
            raise ConfigError(f"{override.input_line}: {expected}")
        if not _is_known_choice(override, found) and key != "experiment":
            yield (override.package or key) if _is_choice(override) else key


def _is_choice(override: Override) -> bool:
    return override.key_or_group in compose.GROUPS


def _is_known_choice(override: Override, found: "Recorded") -> bool:
    """Whether it names the file that the run was made with."""
    name = override.key_or_group + (f"@{override.package}" if override.package else "")
    return _is_choice(override) and found.choices.get(name) == override.value()


def _without_known_choices(
    overrides: Sequence[Override], found: "Recorded"
) -> list[str]:
    skipped = ("resume", "run.id", "experiment")
    return [
        str(override.input_line)
        for override in overrides
        if override.key_or_group not in skipped
        and not _is_known_choice(override, found)
    ]


def _schemas(config: Config, own: Sequence[str]) -> Iterator[str]:
    """Choices that give the composed config the sections of the recorded one."""
    for path in _OPEN:
        group = path.rpartition(".")[2]
        section = get(config, path)
        name = "none" if section is None else f"schema/{schema_name(section)}"
        choice = f"{group}@{path}" if path != group else group
        if not any(line.startswith(f"{choice}=") for line in own):
            yield f"{choice}={name}"


def _check_asks(found: "Recorded", keys: Sequence[str]) -> None:
    """What a recorded value asks of the environment must be given again."""
    for key, text in found.asks.items():
        if key not in (*keys, *_ELSEWHERE):
            raise ConfigError(
                f"{key}={text}: expected on the command line: it reads the "
                "environment, and what a folder says never does"
            )


def _tell_mirrors(before: Config, now: Config) -> None:
    for key in _ELSEWHERE:
        old, new = get(before, key), get(now, key)
        if old != new:
            _LOG.warning(
                "%s=%s was recorded, %s is used: give it on the command line, where "
                "it is meant",
                key,
                old,
                new,
            )


def command(config: Config, home: pathlib.Path, given: Sequence[str]) -> str:
    """The command line that goes on with a run.

    Args:
        config: Its config.
        home: Its folder.
        given: Options that it needs, such as `--plugin my_module`.
    """
    default = Config()
    mirrors = [
        f"{key}={get(config, key)}"
        for key in _ELSEWHERE
        if get(config, key) != get(default, key)
    ]
    return " ".join(["rl-grads train", f"resume={home}", *mirrors, *given])
