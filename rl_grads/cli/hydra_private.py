"""What is used of Hydra's private modules, and why there is no public way.

- `Hydra`: to compose a command line without running it, as `hydra.main` will; the
  public `hydra.compose` knows neither `--config-dir` nor the modes RUN and MULTIRUN.
- `create_config_search_path`: where that looks for configs, in `hydra.main`'s order.
- `get_args_parser`: to tell options from overrides before Hydra prints and exits.
- `Completion`: Hydra's own completion, which it hands out as scripts of one command
  alone; its plugins have only a private method that answers.
- `BasicSweeper`: to split the values of a sweep as Hydra's own sweeper does.
- `ConfigLoaderImpl`: to lay a point's values over a composed config as Hydra does,
  without composing every point again.
- `Callbacks`: a launcher wants them; there are none.

The tests of this room also pass with Hydra 1.4's candidates. Whoever raises the version
looks here first.
"""

import inspect
from collections.abc import Callable
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.plugins.completion_plugin import DefaultCompletionPlugin
from omegaconf import OmegaConf

# What Hydra 1.4 wants to be told, or no longer: that a name may be stored again, and
# which version's defaults hold (1.3's are its own).
_STORES = "replace" in inspect.signature(ConfigStore.store).parameters
AGAIN: dict[str, Any] = {"replace": True} if _STORES else {}
DEFAULTS: dict[str, Any] = {} if _STORES else {"version_base": "1.3"}
# OmegaConf 2.4 gives the name to what was `register_new_resolver`.
_IS_NEW = "replace" in inspect.signature(OmegaConf.register_resolver).parameters
register_resolver: Callable[..., None] = (
    OmegaConf.register_resolver if _IS_NEW else OmegaConf.register_new_resolver
)


class Completion(DefaultCompletionPlugin):
    """What may come next in a line of overrides."""

    def after(self, line: str) -> list[str]:
        """What the last word of a line may become."""
        return self._query("train", line)

    def install(self) -> None:
        """Of no use here, as the others."""

    def uninstall(self) -> None:
        """Nothing."""

    def query(self, config_name: str | None) -> None:
        """Nothing."""

    @staticmethod
    def provides() -> str:
        """No shell."""
        return ""

    @staticmethod
    def help(command: str) -> str:
        """Nothing."""
        return ""


__all__ = [
    "AGAIN",
    "DEFAULTS",
    "BasicSweeper",
    "Callbacks",
    "Completion",
    "ConfigLoaderImpl",
    "Hydra",
    "create_config_search_path",
    "get_args_parser",
    "register_resolver",
]
