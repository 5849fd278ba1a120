"""Hydra's side of the command line: schemas in, a checked config out."""

import argparse
import contextlib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import hydra
from hydra import version
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import (
    HydraException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import MISSING, Container, DictConfig, OmegaConf

import rl_grads.training.schema as schema
from rl_grads.cli import own_configs, text_fields, whole_numbers
from rl_grads.cli.environment_values import environment_values as environment_values
from rl_grads.cli.errors import (
    KNOWN,
    declared,
    no_such_key,
    not_accepted,
    shorten_value,
)
from rl_grads.cli.hydra_private import (
    AGAIN,
    DEFAULTS,
    BasicSweeper,
    Hydra,
    create_config_search_path,
    get_args_parser,
    register_resolver,
)
from rl_grads.config import (
    SCHEMAS,
    ConfigError,
    canonical,
    fields,
    is_config_class,
)
from rl_grads.config.declaring import plain_types
from rl_grads.envs.schema import Env
from rl_grads.typing import Value

GROUPS = ("agent", "network", "env", "optimizer", "replay", "sweep")
_NAME = "train"


def config_directory() -> pathlib.Path:
    """Where the YAML lies: inside the installed package, or beside it in a clone."""
    package = pathlib.Path(schema.__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def choices(group: str) -> tuple[str, ...]:
    """The names that `group=NAME` accepts, registered ones among them."""
    if group == "env":
        from rl_grads import register

        return ("gymnax/ID", "gymnasium/ID", "chain/NAME", *register.names("env"))
    files = {path.stem for path in (config_directory() / group).glob("*.yaml")}
    known = {name.partition("/")[2] for name in SCHEMAS if name.startswith(f"{group}/")}
    return tuple(sorted(files | known))


def _with_replay(value: Value, otherwise: Value, *, _root_: DictConfig) -> Value:
    """`${with_replay:A,B}` in a file: A, or B where `replay` is null."""
    return otherwise if _root_.get("replay") is None else value


# Ours is no class of Hydra's: `cli.sweeping` composes, groups and launches by itself.
# Whatever asks Hydra for one gets its own.
POPULATION = "population"
_SWEEPER = {
    "_target_": f"{BasicSweeper.__module__}.{BasicSweeper.__name__}",
    "max_batch_size": None,
    "params": None,
}


def store_schemas() -> None:
    """Register the schemas with Hydra: `schema`, and one per choice of each group."""
    register_resolver("with_replay", _with_replay, replace=True)
    whole = OmegaConf.structured(schema.Config)
    for group in GROUPS:
        if group != "env":  # It has one class, whose default holds.
            whole[group] = MISSING
    whole.meta.optimizer = MISSING
    store = ConfigStore.instance()
    store.store(name="schema", node=whole, **AGAIN)
    store.store(group="hydra/sweeper", name=POPULATION, node=_SWEEPER, **AGAIN)
    store.store(group="env/schema", name="env", node=Env, **AGAIN)  # A group, then.
    for name, cls in SCHEMAS.items():
        group, _, option = name.partition("/")
        if group not in GROUPS:  # Numbers of components are no choice.
            continue
        if not (config_directory() / f"{name}.yaml").is_file():
            store.store(group=group, name=option, node=cls, **AGAIN)
        store.store(group=f"{group}/schema", name=option, node=cls, **AGAIN)


def to_config(composed: DictConfig) -> schema.Config:
    """The checked config dataclass of what Hydra composed.

    Raises:
        ConfigError: A key is unknown or a value lies outside its domain.
    """
    if OmegaConf.is_missing(composed, "replay"):
        composed.replay = None
    for group in GROUPS:
        if composed._get_node(group) is None or OmegaConf.is_missing(composed, group):
            expected = ", ".join(choices(group))
            raise ConfigError(f"{group}=null: expected one of {expected}")
    _check_keys(composed, "")
    return canonical(OmegaConf.to_object(composed))


def _check_keys(node: DictConfig, prefix: str) -> None:
    """Refuse keys that `+key=value` added where no field is declared."""
    section: Any = OmegaConf.get_type(node)
    known = [f.name for f in fields(section)] if is_config_class(section) else None
    for key in node:
        path, inner = f"{prefix}{key}", node._get_node(key)
        if known is not None and key not in known:
            raise ConfigError(no_such_key(_shown(path, inner), path, section))
        if isinstance(inner, Container) and inner._is_interpolation():
            _check_reference(inner, path)
        if isinstance(inner, DictConfig) and not inner._is_none():
            _check_keys(inner, f"{path}.")


def _check_reference(node: Container, path: str) -> None:
    """Refuse a reference to another kind of thing than what stands there."""
    found, kind = node._maybe_dereference_node(), node._metadata.ref_type
    alike = not is_config_class(kind) or OmegaConf.get_type(found) is kind
    if not (alike and isinstance(found, Container)):
        raise ConfigError(not_accepted(path, [f"{path}={node._value()}"]))


def _shown(path: str, node: Value) -> str:
    """`a.b.c=1` for what stands at a path."""
    while isinstance(node, DictConfig) and len(node) == 1:
        (key,) = node
        path, node = f"{path}.{key}", node._get_node(key)
    return path if isinstance(node, DictConfig) else f"{path}={node._value()}"


# ------------------------------------------------------------------- the command line


class Request(NamedTuple):
    """What a command line asks Hydra for.

    Attributes:
        argv: The arguments, options before overrides: Hydra takes them in no other
            order.
        flags: Hydra's own flags, parsed.
        multirun: Whether it is a sweep.
        runs: Whether anything is to be run, rather than shown.
    """

    argv: list[str]
    flags: argparse.Namespace
    multirun: bool
    runs: bool


def spell(argument: str) -> str:
    """The argument as Hydra is to take it.

    `GROUP=null` becomes `GROUP=none`, as Hydra takes names alone, and text is quoted
    where Hydra would read a number. `env=SUITE/NAME` and `env=REGISTERED` set the id:
    Hydra would look for a file.
    """
    argument = _ENV.sub(_with_id, argument)
    argument = whole_numbers.as_typed(text_fields.as_typed(argument))
    group, equals, names = argument.partition("=")
    if group not in (*GROUPS, "experiment") or not equals:
        return argument
    spelled = ("none" if name == "null" else name for name in names.split(","))
    return f"{group}={','.join(spelled)}"


_ENV = re.compile(r"^env=(.*)$", re.DOTALL)


def _with_id(found: re.Match[str]) -> str:
    from rl_grads import register

    known = register.names("env")
    ids = ("/" in name or name in known for name in found[1].split(","))
    return f"env.id={found[1]}" if all(ids) else found[0]


def read(argv: Sequence[str]) -> Request:
    """Parse a command line as Hydra will.

    Raises:
        ConfigError: A flag is unknown, or a value is of a kind that Hydra trips over.
    """
    parser = get_args_parser()
    parser.error = _refuse_flag
    flags = parser.parse_intermixed_args(list(argv))
    parsed = [_check_kind(override) for override in flags.overrides]
    for group in filter(_can_be_off, GROUPS):
        if any(o.key_or_group == group and o.value() == "none" for o in parsed):
            _check_nothing_below(group, parsed)
    options = [a for a in argv if a not in flags.overrides]
    multirun = flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides
    if not multirun:
        check_values(parsed)
    shows = (flags.cfg, flags.info, flags.hydra_help, flags.shell_completion)
    return Request([*options, *flags.overrides], flags, multirun, not any(shows))


def check_values(overrides: Sequence[Override]) -> None:
    """Refuse what has no values to train with: an interval is for a search.

    Raises:
        ConfigError: Names it.
    """
    for override in overrides:
        if isinstance(override.value(), IntervalSweep):
            given = shorten_value(str(override.input_line))
            words = "values to train with, such as .1,.2 or range(1,5)"
            search = "interval() is for -m sweep=random or sweep=sobol"
            raise ConfigError(f"{given}: expected {words}; {search}")


def _can_be_off(group: str) -> bool:
    return (config_directory() / group / "none.yaml").is_file()


def _check_nothing_below(group: str, overrides: Sequence[Override]) -> None:
    """Refuse keys of a group that the same line switches off."""
    for override in overrides:
        key, given = override.key_or_group, shorten_value(str(override.input_line))
        if key.startswith(f"{group}.") or (key == group and _has_keys(override)):
            words = f"expected no key below {group}, which is null"
            raise ConfigError(f"{given}: {words}")


def _has_keys(override: Override) -> bool:
    return isinstance(override.value(), dict)


def _check_kind(argument: str) -> Override:
    """Refuse a number of thousands of digits, and a choice that is not a name."""
    given = shorten_value(argument)
    try:
        override = OverridesParser.create().parse_override(argument)
    except ValueError as error:  # Python reads no integer of more than 4300 digits.
        raise ConfigError(f"{given}: expected a shorter number") from error
    except HydraException as error:
        raise OverrideParseException(argument, str(error)) from error
    group = override.key_or_group
    if not group:
        raise ConfigError(f"{given}: expected KEY=VALUE")
    if override.is_delete() and (group in GROUPS or group in declared()):
        raise ConfigError(f"{given}: expected {_off(group)}; nothing is taken away")
    if group in (*GROUPS, "experiment") or "/" in group:
        value: Value = override.value()
        _check_names(given, getattr(value, "list", value))  # That of a sweep.
    return override


def _check_names(given: str, value: Value) -> None:
    """Refuse what cannot be the name of a choice, or a list of names."""
    wrong = int | float | list
    if isinstance(value, list):
        wrong |= None
    names = value if isinstance(value, list) else [value]
    if any(isinstance(name, wrong) or _leads_away(name) for name in names):
        raise ConfigError(f"{given}: expected the name of one of its choices")


def _leads_away(name: Value) -> bool:
    """Whether a name is a path out of its group; what Hydra says of it varies."""
    return isinstance(name, str) and (".." in name.split("/") or "\\" in name)


def _off(key: str) -> str:
    """How to switch off what stands at a key."""
    field = declared().get(key)
    can = field is not None and type(None) in plain_types(field.type)
    return f"{key}=null, which switches it off" if can else f"{key}=VALUE"


def _refuse_flag(message: str) -> NoReturn:
    flag = message.removeprefix("unrecognized arguments: ").partition(" ")[0]
    key, equals, value = flag.lstrip("-").partition("=")
    if equals and (key in declared() or key in GROUPS):
        words = f"expected {key}={value}; a W&B sweep writes that by"
        raise ConfigError(f"{flag}: {words} ${{args_no_hyphens}}")
    raise ConfigError(f"{flag}: expected an option that --help lists")


Compose = Callable[[Sequence[str], bool], DictConfig]


@contextlib.contextmanager
def composer(request: Request) -> Iterator[Compose]:
    """A function that composes overrides as Hydra will, without running anything.

    It takes the overrides and whether they are those of a whole sweep.
    """
    if DEFAULTS:
        version.setbase(DEFAULTS["version_base"])
    main = Hydra.create_main_hydra2(_NAME, _search_path(request.flags))
    name = request.flags.config_name or _NAME

    def compose(overrides: Sequence[str], sweep: bool = False) -> DictConfig:
        mode = RunMode.MULTIRUN if sweep else RunMode.RUN
        try:
            composed = main.compose_config(name, list(overrides), mode)
        except KNOWN:
            raise
        except Exception as error:
            words = _in_words(error, overrides)
            if not words:
                raise
            raise ConfigError(words) from error
        HydraConfig.instance().set_config(composed)
        return composed

    try:
        yield compose
    finally:
        GlobalHydra.instance().clear()


def _in_words(error: Exception, overrides: Sequence[str]) -> str:
    """What Hydra and OmegaConf mean by an error that is none of theirs; else empty."""
    _, told, key = str(error).partition("full_key: ")
    if told:  # An integer that no float holds; keys for a section that is null.
        return not_accepted(key.partition("\n")[0], overrides)
    if isinstance(error, AssertionError | AttributeError):  # Hydra 1.3, and 1.4.
        below = [o for o in overrides if o.startswith("replay.")]
        given = " ".join(shorten_value(o) for o in below or overrides)
        section = "replay, which is null" if below else "a null or a reference"
        return f"{given}: expected no key below {section}"
    if isinstance(error, OSError):
        name = pathlib.Path(str(error.filename)).stem
        given = next(
            (o for o in overrides if o.endswith(name)), f"--config-name={name}"
        )
        return (
            f"{shorten_value(given)}: expected the name of a config ({error.strerror})"
        )
    return str(error) if isinstance(error, ValueError) else ""  # A defaults list.


def _search_path(flags: argparse.Namespace) -> ConfigSearchPath:
    """Where Hydra will look for configs."""
    found = own_configs.order(flags, config_directory())
    path = create_config_search_path(found.first)
    if found.second is not None:
        extra = f"file://{pathlib.Path(found.second).absolute()}"
        path.prepend("command-line", extra, SearchPathQuery("schema"))
    return path


def quoted(text: str) -> str:
    """Text as Hydra's override grammar takes it, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def run(
    task: Callable[[DictConfig], object], argv: Sequence[str], command: str
) -> None:
    """Hand a command line to Hydra, which calls `task` with each composed config."""
    request = read(argv)
    first, second = own_configs.order(request.flags, config_directory())
    start = hydra.main(config_path=first, config_name=_NAME, **DEFAULTS)
    # The last --config-dir counts.
    added = [] if second is None else [f"--config-dir={second}"]
    options = request.argv[: len(request.argv) - len(request.flags.overrides)]
    before = sys.argv
    sys.argv = [command, *options, *added, *request.flags.overrides]
    try:
        start(task)()
    finally:
        sys.argv = before


def without_hydra(composed: DictConfig) -> DictConfig:
    """A copy of a composed config without Hydra's own section."""
    copy = composed.copy()
    OmegaConf.set_struct(copy, False)
    del copy["hydra"]
    return copy
