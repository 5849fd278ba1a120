"""What a run's `.hydra/` says, read as plain YAML: nothing in it reaches Hydra.

Versions before `config.json` recorded a run there, and Hydra still writes it for
people. Its overrides are looked at in every version, because a line that only a
stranger could have put there is a reason to refuse the folder.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from rl_grads.config import SCHEMAS, ConfigError, Field, fields, schema_group
from rl_grads.config.document import is_open
from rl_grads.training.schema import Config
from rl_grads.typing import Document, Json

FOLDER = ".hydra"
_LARGEST = 1 << 20  # Bytes of a file.


def check_overrides(directory: pathlib.Path) -> None:
    """Refuse recorded overrides that are anything but `KEY=VALUE` of our own keys.

    Raises:
        ConfigError: Names the line: an option, a key of Hydra's, or no text at all.
    """
    overrides(directory)


def overrides(directory: pathlib.Path) -> list[str]:
    """The recorded overrides, `KEY=VALUE` of our own keys; none where there are none.

    Raises:
        ConfigError: As `check_overrides`.
    """
    path = directory / FOLDER / "overrides.yaml"
    lines = _load(path) if path.exists() else []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ConfigError(f"{path}: expected a list of texts KEY=VALUE")
    for line in lines:
        key = line.partition("=")[0].lstrip("+~")
        group = key.partition("@")[0]
        if line.startswith("-") or key.startswith("hydra") or "=" not in line:
            expected = "expected a key of a config, in a run's own folder"
            raise ConfigError(f"{path}: {line[:120]}: {expected}")
        if group.partition(".")[0] not in _TOP:
            expected = f"expected a key of a config ({', '.join(_TOP)})"
            raise ConfigError(f"{path}: {line[:120]}: {expected}")
    return lines


_TOP = (*(field.name for field in fields(Config)), "experiment", "optimizer")


def read(directory: pathlib.Path) -> tuple[dict[str, Json], dict[str, str]]:
    """The flat document of a run's config, and the file chosen for each group.

    Raises:
        ConfigError: A file is missing or odd, or a section fits no schema.
    """
    saved, path = _mapping(directory, "config.yaml"), directory / FOLDER / "config.yaml"
    choices = _choices(directory)
    document = dict(_flat(saved, Config(), "", choices, str(path)))
    document.pop("run.id", None)  # It was composed of the time.
    document.pop("resume", None)
    return document, choices


def _choices(directory: pathlib.Path) -> dict[str, str]:
    """What was chosen for each group of ours."""
    node: Any = _mapping(directory, "hydra.yaml")
    for name in ("hydra", "runtime", "choices"):
        node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping):
        path = directory / FOLDER / "hydra.yaml"
        raise ConfigError(f"{path}: expected hydra.runtime.choices")
    return {
        group: name
        for group, name in node.items()
        if isinstance(group, str) and isinstance(name, str) and "hydra" not in group
    }


def _flat(
    node: Mapping[str, Json], default: Json, prefix: str, choices: Mapping, where: str
) -> Iterator[tuple[str, Json]]:
    """The entries of a section; what it has that no field declares comes as it is."""
    known = {field.name: field for field in fields(type(default))}
    for key, value in node.items():
        path, field = f"{prefix}{key}", known.get(key)
        if field is None or not field.is_group:
            yield path, _number(value, field)
            continue
        section = getattr(default, field.name)
        if is_open(field):
            name = _schema(value, field, path, choices, where)
            yield path, name
            section = None if name is None else SCHEMAS[_full(field, name)]()
        if isinstance(value, Mapping) and section is not None:
            yield from _flat(value, section, f"{path}.", choices, where)
        elif not is_open(field):
            raise ConfigError(f"{where}: {path}: expected a section")


def _full(field: Field, name: str) -> str:
    return f"{schema_group(field)}/{name}"


def _schema(
    value: Json, field: Field, path: str, choices: Mapping[str, str], where: str
) -> str | None:
    """The schema whose keys a section has; the choice of its group decides a tie."""
    if value is None or value == "???":  # What OmegaConf writes for a missing group.
        return None
    group = schema_group(field)
    names = [n.partition("/")[2] for n in SCHEMAS if n.startswith(f"{group}/")]
    keys = set(value) if isinstance(value, Mapping) else {value}
    fitting = [n for n in names if keys <= _keys(SCHEMAS[f"{group}/{n}"])]
    exact = [n for n in fitting if keys == _keys(SCHEMAS[f"{group}/{n}"])]
    chosen = choices.get(path) or choices.get(f"{group}@{path}")
    best = [n for n in fitting if n == chosen] or exact or fitting
    if not best:
        expected = f"expected the keys of a registered {group}: {', '.join(names)}"
        raise ConfigError(f"{where}: {path}: {expected}")
    return best[0]


def _keys(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}


def _number(value: Json, field: Field | None) -> Json:
    """YAML 1.1 reads 1e-05 as text where a dot is missing."""
    if field is None or not field.is_leaf or not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _mapping(directory: pathlib.Path, name: str) -> Document:
    path = directory / FOLDER / name
    found = _load(path)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{path}: expected a YAML mapping")
    return found


class _Plain(yaml.SafeLoader):
    """Plain YAML without references, so that a small file is a small value."""

    def compose_node(self, parent: Json, index: Json) -> Json:
        """Refuse an alias."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("a reference to another value")
        return super().compose_node(parent, index)


def _load(path: pathlib.Path) -> Json:
    """Plain data of a YAML file.

    Raises:
        ConfigError: It cannot be read, is too large, or is no plain YAML.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path}: expected at most {_LARGEST:,} bytes")
        return yaml.load(content, _Plain)
    except OSError as error:
        raise ConfigError(f"{path}: expected a file ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise ConfigError(f"{path}: expected plain YAML ({reason})") from None
