"""One short message for every kind of bad input: `KEY=VALUE: expected WHAT`."""

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from rl_grads.config import (
    SCHEMAS,
    ConfigError,
    Field,
    describe,
    fields,
    is_config_class,
    nearest,
    shorten,
    walk,
)
from rl_grads.tracking.files import CannotWrite
from rl_grads.training.schema import RENAMED, Config

KNOWN = (ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError)
_LONGEST = 500  # Characters of a message.
_PLAIN = {"bool": "true or false", "str": "text"}
_FULL = "HYDRA_FULL_ERROR"


class PointFailed(Exception):
    """A point of a sweep failed and has told why; its argument is the exit status."""


def guard(command: str, argv: Sequence[str], call: Callable[[bool], None]) -> int:
    """Call and return the exit status: bad input gives 2 and one message.

    Args:
        command: What the message begins with.
        argv: The command line, for the message.
        call: Is told whether `HYDRA_FULL_ERROR=1` in the environment asks for
            tracebacks as well.
    """
    before = os.environ.get(_FULL)
    os.environ[_FULL] = "1"  # Hydra then raises instead of printing and exiting.
    try:
        call(before == "1")
    except PointFailed as failed:
        return failed.args[0]
    except KNOWN as error:
        tell(f"{command}: {explain(error, argv)}", full=before == "1")
        return 2
    except CannotWrite as error:
        tell(f"{command}: {error}", full=before == "1")
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 130
    finally:
        _restore(before)
    return 0


def tell(message: str, full: bool) -> None:
    """Print a message on the standard error, behind the traceback if it is wanted."""
    if full:
        traceback.print_exc()
    print(message, file=sys.stderr)


def _restore(before: str | None) -> None:
    if before is None:
        del os.environ[_FULL]
    else:
        os.environ[_FULL] = before


def explain(error: BaseException, argv: Sequence[str] = ()) -> str:
    """The key, its value, what was expected and the nearest valid name.

    Args:
        error: One of `KNOWN`.
        argv: The command line, where the value stands as the user wrote it.
    """
    return shorten(_explain(list(_causes(error)), argv), _LONGEST)


def _explain(chain: Sequence[BaseException], argv: Sequence[str]) -> str:
    """What the first of some errors that is known says in words."""
    for error in chain:
        for kind, words in _WORDS.items():
            if isinstance(error, kind) and (text := words(error, argv)):
                return text
    texts = (_unmerged(error, argv) or " ".join(str(error).split()) for error in chain)
    return next(filter(None, texts), type(chain[0]).__name__)


def shorten_value(argument: str) -> str:
    """`KEY=VALUE` with the middle left out of a long value, and never of the key."""
    key, equals, value = argument.partition("=")
    return f"{key}{equals}{shorten(value)}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _choice(error: MissingConfigException, argv: Sequence[str]) -> str:
    """No such choice of a group."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    section, _, name = str(error.missing_cfg_file).partition("/")
    if section in [f.name for f in fields(Config)]:
        group, option = section, name  # A name with a slash in it.
    option = shorten(option)
    if str(error.missing_cfg_file).startswith("hydra/"):
        return _of_hydra(str(error.missing_cfg_file))
    if group == "env":
        return _environment(option)
    known = [str(o) for o in error.options or () if o != "schema"]
    if not group:
        return f"{option}: expected the name of a config{nearest(option, known)}"
    expected = f"expected one of {', '.join(known)}" if known else "expected a config"
    return f"{group}={option}: {expected}{nearest(option, known)}"


_PACKAGES = {
    "hydra/launcher/joblib": "hydra-joblib-launcher",
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/ray_aws": "hydra-ray-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
}


def _of_hydra(path: str) -> str:
    """A part of Hydra's that is not there, with the package that has it."""
    group, _, name = path.rpartition("/")
    given, package = f"{group}={name}", _PACKAGES.get(path)
    if package is None:
        known = [p.rpartition("/")[2] for p in _PACKAGES if p.startswith(f"{group}/")]
        hint = nearest(name, ["basic", *known])
        return f"{given}: expected a plugin of Hydra that is installed{hint}"
    return f"{given}: expected its package: pip install {package}"


def _environment(name: str) -> str:
    """What the environments' own door says about an id."""
    from rl_grads.envs import make
    from rl_grads.envs.schema import Env

    try:
        make.check(Env(id=name))
    except ConfigError as error:
        return str(error)
    return f"env={name}: expected an environment"


def _syntax(error: OverrideParseException, argv: Sequence[str]) -> str:
    """An argument that is no override."""
    given, reason = shorten_value(error.override), str(error.message).partition("\n")[0]
    if "=" not in given:
        return f"{given}: expected KEY=VALUE"
    return f"{given}: expected KEY=VALUE that Hydra can read ({reason})"


def _several(error: Exception, argv: Sequence[str]) -> str:
    """Several values for one key, or a reference for a choice; else no match."""
    kind, _, rest = str(error).partition("'")
    quoted = rest.partition("'")[0]
    if kind.startswith(("Ambiguous value", "Sweep parameters")):
        return f"{shorten_value(quoted)}: expected one value; -m sweeps over several"
    if kind == "Error resolving interpolation ":
        given = next((a for a in argv if quoted in a), quoted)
        return f"{shorten_value(given)}: expected the name of one of its choices"
    return ""


def _directory(error: Exception, argv: Sequence[str]) -> str:
    path = str(error).split("'")[1]
    return f"--config-dir={path}: expected a directory"


# ------------------------------------------------------------------------ one key


def _unknown(error: OmegaConfBaseException, argv: Sequence[str]) -> str:
    """No such key."""
    key = str(error.full_key)
    if not isinstance(error.object_type, type):
        return f"{_given(key, argv)}: expected nothing below it"
    return no_such_key(_given(key, argv), key, error.object_type)


def _null(error: OmegaConfBaseException, argv: Sequence[str]) -> str:
    """A key below a group that is switched off."""
    return _nothing_below(str(error.full_key), argv)


def _null_here(error: ConfigTypeError, argv: Sequence[str]) -> str:
    """The same, as OmegaConf 2.4 says it; else no match."""
    _, found, rest = str(error).partition("' because '")
    return _nothing_below(rest.partition("'")[0], argv) if found else ""


def _nothing_below(key: str, argv: Sequence[str]) -> str:
    below = (a for a in argv if a.lstrip("+").startswith(f"{key}."))
    return f"{next(below, key)}: expected no key below {key}, which is null"


def no_such_key(given: str, key: str, section: type) -> str:
    """The message for a key that its section, a config class, does not have."""
    parent = key.rpartition(".")[0]
    if key in RENAMED:
        return f"{given}: expected {RENAMED[key]}, its name now"
    if not is_config_class(section):
        return f"{given}: expected a key that is there; +{given} adds one"
    known = [f.name for f in fields(section)]
    where = f"a key of {parent}" if parent else "a key"
    return f"{given}: expected {where} ({', '.join(known)}){_suggest(key, known)}"


def _suggest(key: str, known: Sequence[str]) -> str:
    """The choice that has this key, the nearest sibling, or the name elsewhere."""
    parent, dot, name = key.rpartition(".")
    owners = [choice for choice in SCHEMAS if key in _paths(choice)]
    if owners:
        return f"; {', '.join(owners).replace('/', '=')} would have it"
    if nearest(name, known):
        siblings = {f"{parent}{dot}{sibling}": sibling for sibling in known}
        return nearest(key, siblings)
    same = [path for path in declared() if path.rpartition(".")[2] == name]
    return f"; did you mean {same[0]!r}?" if same else ""


def _mistyped(error: OmegaConfBaseException, argv: Sequence[str]) -> str:
    """A value of the wrong type."""
    return not_accepted(str(error.full_key), argv)


def not_accepted(key: str, argv: Sequence[str]) -> str:
    """The message for a key with a value of another kind; empty for no key."""
    return _expected(key, _given(key, argv))


def _unmerged(error: BaseException, argv: Sequence[str]) -> str:
    """A value of another kind, where nothing better is known of it."""
    _, found, given = str(error).partition("Error merging override ")
    key = given.partition("=")[0].lstrip("+~")
    expected = _expected(key, given) or f"{given}: expected a value of another kind"
    return expected if found else ""


def _expected(key: str, given: str) -> str:
    """What a key accepts, or the sections below it; empty where it is none."""
    known, key = declared(), key.partition("[")[0]
    below = [path for path in known if path.startswith(f"{key}.")]
    if below:
        return f"{given}: expected a key below it, such as {below[0]}"
    parents = itertools.accumulate(key.split("."), "{}.{}".format)
    field = next((known[p] for p in reversed(list(parents)) if p in known), None)
    return f"{given}: expected {accepts(field)}" if field else ""


def accepts(field: Field) -> str:
    """What a field accepts, in words."""
    word, *rest = describe(field).split(" ")
    return " ".join([_PLAIN.get(word, word), *rest])


def _given(key: str, argv: Sequence[str]) -> str:
    """The argument that sets a key (or one below it), else the key alone."""
    key = key.partition("[")[0]
    for argument in argv:
        name = argument.partition("=")[0].lstrip("+~")
        if f"{name}.".startswith(f"{key}."):
            return shorten_value(argument)
    return key


def declared() -> Mapping[str, Field]:
    """Every dotted path, over all choices of all groups."""
    found = {path: field for path, field, _ in walk(Config())}
    for name in SCHEMAS:
        found |= _paths(name)
    return found


def _paths(name: str) -> dict[str, Field]:
    """The dotted paths of one choice, by its `"group/name"`."""
    prefix = f"{name.partition('/')[0]}."
    return {path: field for path, field, _ in walk(SCHEMAS[name](), prefix)}


_WORDS: dict[type, Callable[[Any, Sequence[str]], str]] = {
    ConfigError: lambda error, argv: str(error),
    MissingConfigException: _choice,
    OverrideParseException: _syntax,
    SearchPathException: _directory,
    ValidationError: _mistyped,
    MissingMandatoryValue: _null,
    ConfigAttributeError: _unknown,
    ConfigKeyError: _unknown,
    ConfigTypeError: _null_here,
    HydraException: _several,
}
