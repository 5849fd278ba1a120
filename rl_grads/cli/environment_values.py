"""Values of a config that read the environment, which no run may record or log."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rl_grads.config import is_config_class

# What these make comes from the config, from Hydra or from the clock. Any other reads
# something outside, whoever registered it.
_KNOWN = (
    "hydra",
    "now",
    "oc.create",
    "oc.decode",
    "oc.deprecated",
    "oc.dict.keys",
    "oc.dict.values",
    "oc.select",
)
_MARK = "rl_grads.read_outside"
_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")


class _ReadOutside(Exception):
    """What a value would read."""


def environment_values(composed: DictConfig) -> dict[str, str]:
    """Dotted keys whose values read the environment, with their text.

    A value reads it by its own text or by that of another key to which it refers. In a
    list or a mapping that is one value, such as `env.params`, one such item counts for
    all. Nothing is read here.

    Args:
        composed: A composed config, with Hydra's own section or without.

    Example:
        >>> told = {"seed": 0, "precision": "${oc.env:SECRET}", "resume": "${seed}"}
        >>> environment_values(OmegaConf.create(told))
        {'precision': '${oc.env:SECRET}'}
    """
    OmegaConf.register_new_resolver(_MARK, _refuse, replace=True)
    plain = OmegaConf.to_container(composed, resolve=False)
    marked = OmegaConf.create(_marked(plain))
    return {
        path: _text(value)
        for path, value in _values(composed, plain, "")
        if "${" in _text(value) and _reads_outside(marked, path)
    }


def _refuse(*_: Any) -> None:
    raise _ReadOutside


def _marked(value: Any) -> Any:
    """The same with a resolver that refuses in the place of those that read outside."""
    if isinstance(value, dict):
        return {key: _marked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner) for inner in value]
    return _RESOLVER.sub(_mark, value) if isinstance(value, str) else value


def _mark(found: re.Match[str]) -> str:
    return found[0] if found[1] in _KNOWN else "${" + f"{_MARK}:"


def _values(node: Any, plain: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key; only sections are entered, and not Hydra's."""
    for key, value in plain.items():
        inner, path = node._get_node(key), f"{prefix}{key}"
        if path == "hydra":
            continue
        if _is_section(inner) and isinstance(value, dict):
            yield from _values(inner, value, f"{path}.")
        else:
            yield path, value


def _is_section(node: Any) -> bool:
    declared: Any = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    return is_config_class(declared)


def _reads_outside(marked: Any, path: str) -> bool:
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


def _text(value: Any) -> str:
    """A value as the grammar of overrides writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "null" if value is None else str(value)
