"""Values of a config that read the environment, which no run may record or log."""

import re
from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rl_grads.cli.hydra_private import register_resolver
from rl_grads.config import fields, is_config_class
from rl_grads.typing import Value

# What these make comes from the config, from Hydra or from the clock. Any other reads
# something outside, whoever registered it.
_KNOWN = (
    "now",
    "oc.create",
    "oc.decode",
    "oc.deprecated",
    "oc.dict.keys",
    "oc.dict.values",
    "oc.select",
    "with_replay",
)
_MARK = "rl_grads.read_outside"
# The name may be put together: `${oc.${a}:...}`.
_RESOLVER = re.compile(r"\$\{\s*((?:[\w.]|\$\{[^{}]*\})+)\s*:")


class _ReadOutside(Exception):
    """What a value would read."""


def environment_values(composed: DictConfig) -> dict[str, str]:
    """Dotted keys whose values read the environment, with their text.

    A value reads it by its own text or by that of another key to which it refers. In a
    list or a mapping that is one value, such as `env.params`, one such item counts for
    all; of a section that refers to another (`meta.optimizer=${optimizer}`) each key
    counts by itself. Nothing is read here.

    Args:
        composed: A composed config, with Hydra's own section or without.

    Example:
        >>> told = {"seed": 0, "precision": "${oc.env:SECRET}", "resume": "${seed}"}
        >>> environment_values(OmegaConf.create(told))
        {'precision': '${oc.env:SECRET}'}
    """
    register_resolver(_MARK, _refuse, replace=True)
    plain: Any = OmegaConf.to_container(composed, resolve=False)
    marked = OmegaConf.create(_marked({"hydra": _hydras(), **plain}))
    return {
        path: text
        for path, text in _texts(composed, plain, "")
        if "${" in text and _reads_outside(marked, path)
    }


def _hydras() -> Value:
    """Hydra's section as it is now, which `${hydra:KEY}` reads."""
    settings = HydraConfig.instance().cfg
    if settings is None:
        return None
    plain: Any = OmegaConf.to_container(settings, resolve=False)
    return plain["hydra"]


def _refuse(*_: object) -> None:
    raise _ReadOutside


def _marked(value: Value) -> Value:
    """The same with a resolver that refuses in the place of those that read outside."""
    if isinstance(value, dict):
        return {key: _marked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(inner) for inner in value]
    return _RESOLVER.sub(_mark, value) if isinstance(value, str) else value


def _mark(found: re.Match[str]) -> str:
    if found[1] == "hydra":  # By reference it reads what is marked.
        return "${hydra."
    return found[0] if found[1] in _KNOWN else "${" + f"{_MARK}:"


def _texts(node: Value, plain: Value, prefix: str) -> Iterator[tuple[str, str]]:
    """Every value as it was written, by its key; Hydra's section is not entered."""
    sections = _declared_sections(node)
    for key, value in plain.items():
        inner, path = node._get_node(key), f"{prefix}{key}"
        if key in sections and value is not None:
            yield from _of_section(inner, value, path)
        elif path != "hydra":
            yield path, _text(value)


def _of_section(node: Value, value: Value, path: str) -> Iterator[tuple[str, str]]:
    """All values of a section; of one that is a reference, those that it leads to."""
    target = node._maybe_dereference_node()
    if not _is_section(target):
        yield path, _text(value)
        return
    inner = OmegaConf.to_container(target, resolve=False)
    for key, text in _texts(target, inner, f"{path}."):
        yield key, text if target is node or "${" in text else _text(value)


def _declared_sections(node: Value) -> set[str]:
    """The keys of a section under which its class has sections."""
    cls: Any = OmegaConf.get_type(node)
    declared = fields(cls) if is_config_class(cls) else ()
    return {field.name for field in declared if field.is_group}


def _is_section(node: Value) -> bool:
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return False
    declared: Any = OmegaConf.get_type(node)
    return is_config_class(declared)


def _reads_outside(marked: Value, path: str) -> bool:
    """Whether what stands there comes from a resolver that refuses."""
    try:
        found = OmegaConf.select(marked, path)
        if OmegaConf.is_config(found):
            OmegaConf.to_container(found, resolve=True)
    except Exception as error:  # A value that is wrong in itself is refused elsewhere.
        return _is_caused_by_reading(error)
    return False


def _is_caused_by_reading(error: BaseException | None) -> bool:
    """OmegaConf wraps what a resolver raises."""
    while error is not None:
        if isinstance(error, _ReadOutside):
            return True
        error = error.__cause__ or error.__context__
    return False


def _text(value: Value) -> str:
    """A value as the grammar of overrides writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "null" if value is None else str(value)
