"""Config of what is logged and where. Imports neither JAX nor a tracker."""

from rl_grads.config import at_least, config, group, one_of, setting
from rl_grads.register import Registered


@config
class WandB:
    """Weights & Biases."""

    mode: str = setting(
        "auto",
        "auto: online if credentials exist, otherwise offline, never asking",
        one_of("auto", "online", "offline", "disabled"),
    )
    project: str = setting("rl_grads", "project")
    entity: str | None = setting(None, "team or user; null: the account's default")
    group: str | None = setting(None, "group; null: the sweep's name, or the run's")
    tags: tuple[str, ...] = setting((), "tags beside experiment, agent and env")
    runs: str = setting(
        "member",
        "one W&B run per member, one per point (member means), or none",
        one_of("member", "point", "none"),
    )


@config
class Tracking:
    """Files are always written; the trackers mirror them."""

    interval: int = setting(
        1000, "environment steps per member between two logged rows", at_least(1)
    )
    progress: bool = setting(True, "draw a progress bar")
    trackio: bool = setting(True, "mirror to Trackio's local dashboard")
    wandb: WandB = group(WandB, "mirror to Weights & Biases")
    own: tuple[str, ...] = setting(
        (), "registered trackers to mirror to as well", Registered("tracker")
    )
