"""Where a command writes: a folder of its own, taken before anything is written."""

import pathlib

from omegaconf import DictConfig, OmegaConf

from rl_grads.config import ConfigError
from rl_grads.tracking import folder
from rl_grads.typing import Value

RUN, SWEEP = "hydra.run.dir", "hydra.sweep.dir"
_TIME = "${now:"  # In a name that is made of the time, and so may be taken.


def check_id(whole: DictConfig, key: str) -> None:
    """Refuse a `run.id` that would lead out of the folder of all runs.

    Args:
        whole: The composed config with Hydra's section.
        key: `RUN` or `SWEEP`: the directory that the command writes into.

    Raises:
        ConfigError: Names it.
    """
    if not _named(whole, key) or _is_timed(whole):
        return
    name = OmegaConf.select(whole, "run.id")
    if name is None:
        raise ConfigError("run.id=null: expected a name for a folder below runs/")
    folder.check_id(str(name))


def take(whole: DictConfig, key: str) -> pathlib.Path:
    """The directory that a command writes into.

    One whose name is made of the time is created here, with a number behind it where
    another run has begun in the same second; any other is left to be claimed.

    Raises:
        OSError: It cannot be created.
    """
    path = pathlib.Path(str(OmegaConf.select(whole, key)))
    timed = _named(whole, key) and _is_timed(whole)
    return folder.take_new(path) if timed else path


def _named(whole: DictConfig, key: str) -> bool:
    """Whether the directory's name is `run.id`, rather than given itself."""
    return "${run.id}" in str(_raw(whole, key))


def _is_timed(whole: DictConfig) -> bool:
    return _TIME in str(_raw(whole, "run.id"))


def _raw(whole: DictConfig, key: str) -> Value:
    """A value before its interpolations are resolved."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(whole, parent)._get_node(name)
    return None if node is None else node._value()
