"""Hydra's side of the command line: schemas in, a checked config out."""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import rl_grads.training.schema as schema
from rl_grads.config import SCHEMAS, canonical

_GROUPS = ("agent", "network", "env", "optimizer", "replay")


def config_directory() -> pathlib.Path:
    """Where the YAML lies: inside the installed package, or beside it in a clone."""
    package = pathlib.Path(schema.__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def store_schemas() -> None:
    """Register the schemas with Hydra: `schema`, and one per choice of each group."""
    whole = OmegaConf.structured(schema.Config)
    for group in _GROUPS:
        whole[group] = MISSING
    store = ConfigStore.instance()
    store.store(name="schema", node=whole)
    for name, cls in SCHEMAS.items():
        group, _, option = name.partition("/")
        store.store(group=group, name=option, node=cls)
        store.store(group=f"{group}/schema", name=option, node=cls)


def to_config(composed: DictConfig) -> schema.Config:
    """The checked config dataclass of what Hydra composed.

    Raises:
        ConfigError: A value lies outside its domain.
    """
    if OmegaConf.is_missing(composed, "replay"):
        composed.replay = None
    return canonical(OmegaConf.to_object(composed))


def run(task: Callable[[DictConfig], Any], argv: Sequence[str], command: str) -> None:
    """Compose a config from the command line and call `task` with it."""
    store_schemas()
    sys.argv = [command, *argv]
    directory = str(config_directory())
    start = hydra.main(version_base="1.3", config_path=directory, config_name="train")
    start(task)()
