"""Lets Hydra take any environment id as a choice: `env=gymnasium/LunarLander-v3`.

A Hydra config source with a file for every id, whichever are installed. It only hands
the id on; whether there is such an environment is checked when training begins.
"""

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

_GROUP = "env/"


class EnvironmentIds(ConfigSource):
    """Every `env/ID` is a config that says `id: ID`."""

    @staticmethod
    def scheme() -> str:
        """The scheme of this source in Hydra's search path."""
        return "environments"

    def load_config(self, config_path: str) -> ConfigResult:
        """The config of one id."""
        name = config_path.removeprefix(_GROUP).removesuffix(".yaml")
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({"id": name}),
            header={"package": None},
        )

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether this is the group `env`."""
        return config_path.rstrip("/") == _GROUP.rstrip("/")

    def is_config(self, config_path: str) -> bool:
        """Whether this names something in the group `env`."""
        return config_path.startswith(_GROUP) and len(config_path) > len(_GROUP)

    def list(
        self, config_path: str, results_filter: ObjectType | None
    ) -> list[str]:
        """Nothing: the ids are open-ended."""
        return []


class EnvironmentSearchPath(SearchPathPlugin):
    """Puts the ids at the end of every search path of this project."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the source where the project's configs are searched."""
        main: Any = search_path.get_path()
        if any("rl_grads" in str(p.path) or p.provider == "main" for p in main):
            search_path.append("rl_grads", "environments://")
