"""Lets Hydra take any environment id as a choice: `env=gymnasium/LunarLander-v3`.

A Hydra config source with a file for every id, whichever are installed. It only hands
the id on; whether there is such an environment is checked when training begins.
"""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

_GROUP = "env/"


class EnvironmentIds(ConfigSource):
    """Every `env/SUITE/NAME` and `env/REGISTERED` is a config that says `id: ...`."""

    @staticmethod
    def scheme() -> str:
        """The scheme of this source in Hydra's search path."""
        return "environments"

    def load_config(self, config_path: str) -> ConfigResult:
        """The config of one id."""
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({"id": _id(config_path)}),
            header={"package": None},
        )

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether this is the group `env`."""
        return config_path.rstrip("/") == _GROUP.rstrip("/")

    def is_config(self, config_path: str) -> bool:
        """Whether this names an id; other names are files of the user's own."""
        from rl_grads import register

        if not config_path.startswith(_GROUP):
            return False
        name = _id(config_path)
        return "/" in name.strip("/") or name in register.names("env")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing: the ids are open-ended."""
        return []


def _id(config_path: str) -> str:
    return config_path.removeprefix(_GROUP).removesuffix(".yaml")


class EnvironmentSearchPath(SearchPathPlugin):
    """Puts the ids on the search path of this project's commands."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the source, but leave other Hydra programs alone."""
        if "rl_grads.cli.compose" in sys.modules:
            search_path.append("rl_grads", "environments://")
