"""`rg.compose`: in Python, the config that a command line would train."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from rl_grads import register
from rl_grads.cli import compose as hydras
from rl_grads.cli import errors
from rl_grads.config import ConfigError
from rl_grads.training.schema import Config


def compose(
    experiment: str = "train",
    *overrides: str,
    config_dir: str | pathlib.Path | None = None,
) -> Config:
    """The config of `rl-grads train experiment=EXPERIMENT OVERRIDES ...`.

    Nothing is run or written, and Hydra is left as it was: an application of your own
    that uses it goes on.

    Args:
        experiment: A file of `configs/experiment/`, or of yours.
        overrides: As on the command line, `"replay=per"`, `"agent.discount=0.9"`.
        config_dir: Your own folder of configs, the command line's `--config-dir`.

    Returns:
        The checked config; `rg.population(config)` makes its members.

    Raises:
        ConfigError: What the command line would refuse, in the same words.

    Example:
        >>> config = compose("train", "replay=per", "agent.discount=0.9")
        >>> config.replay.priority, config.agent.discount, config.seeds
        ('td_error', 0.9, 10)
    """
    argv = [f"experiment={experiment}", *overrides]
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(
                f"{override}: expected KEY=VALUE; config_dir is an argument"
            )
    if config_dir is not None:
        argv.append(f"--config-dir={config_dir}")
    register.load_plugins()
    try:
        with _hydra_as_it_was():
            return _composed(argv)
    except errors.KNOWN as error:
        raise ConfigError(errors.explain(error, overrides)) from None


def _composed(argv: Sequence[str]) -> Config:
    hydras.store_schemas()
    request = hydras.read([hydras.spell(argument) for argument in argv])
    with hydras.composer(request) as composed:
        whole = composed(request.flags.overrides, False)
        config = hydras.to_config(hydras.without_hydra(whole))
    if config.resume is not None:
        expected = "expected null: a run goes on by rl-grads train resume=RUN"
        raise ConfigError(f"resume={config.resume}: {expected}")
    return config


@contextlib.contextmanager
def _hydra_as_it_was() -> Iterator[None]:
    """Give Hydra's own state back afterwards: its store, settings and resolvers."""
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(before)
