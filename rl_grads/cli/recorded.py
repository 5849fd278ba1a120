"""The config of a run from what Hydra has saved in its folder."""

import pathlib
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from rl_grads.cli import compose, door, results
from rl_grads.config import ConfigError, replace
from rl_grads.training.schema import Config


def read(directory: pathlib.Path) -> Config:
    """The checked config that a run was trained with, `resume` aside.

    It is composed again for the types of its groups; its values are those saved.

    Args:
        directory: The folder of one run, or of one point of a sweep.

    Raises:
        ConfigError: There is no such run, or it was not made by the command line; also
            what Hydra and OmegaConf raise, see `errors.explain`.
    """
    found = [point.directory for point in results.points(directory)]
    if found != [directory]:
        expected = f"expected one run, such as {found[-1]}, not a sweep"
        raise ConfigError(f"{directory}: {expected}")
    saved = directory / ".hydra" / "config.yaml"
    if not saved.is_file():
        raise ConfigError(
            f"{directory}: expected a run of rl-grads train, with {saved}"
        )
    compose.store_schemas()
    request = compose.read(list(_arguments(saved.parent)))
    with compose.composer(request) as composed:
        whole = composed(request.flags.overrides, False)
        door.refuse_code(whole.hydra)
        own = compose.without_hydra(whole)
        config = compose.to_config(_merged(own, OmegaConf.load(saved)))
    return replace(config, {"resume": None})


def _merged(own: Any, saved: Any) -> Any:
    """Saved values in the place of composed ones; a group without a value stays."""
    kept = {key: saved._get_node(key) for key in saved if not _missing(saved, key)}
    return OmegaConf.merge(own, OmegaConf.create(kept))


def _missing(saved: Any, key: Any) -> bool:
    return OmegaConf.is_missing(saved, key)


def _arguments(folder: pathlib.Path) -> Iterator[str]:
    """The run's own overrides, and the directory of configs that it was given."""
    for override in OmegaConf.load(folder / "overrides.yaml"):
        if not str(override).startswith("resume="):
            yield str(override)
    sources = OmegaConf.select(
        OmegaConf.load(folder / "hydra.yaml"), "hydra.runtime.config_sources"
    )
    for source in sources:
        if source.provider == "command-line":
            yield f"--config-dir={source.path}"
