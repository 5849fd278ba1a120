"""Config of what is logged and where. Imports neither JAX nor a tracker."""

from rl_grads.config import at_least, config, group, one_of, setting
from rl_grads.register import Registered

MOST_MEMBER_RUNS = 20  # More lines than that are no longer told apart.


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


@config
class Tracking:
    """Files are always written; the trackers mirror them."""

    interval: int = setting(
        1000, "environment steps per member between two logged rows", at_least(1)
    )
    progress: bool = setting(True, "draw a progress bar")
    runs: str = setting(
        "auto",
        "runs that W&B and Trackio show: one per member, one per point (mean, IQM and "
        "interval of its members), or none; auto: one per member up to "
        f"{MOST_MEMBER_RUNS} members in a job, else one per point",
        one_of("auto", "member", "point", "none"),
    )
    trackio: bool = setting(True, "mirror to Trackio's local dashboard")
    wandb: WandB = group(WandB, "mirror to Weights & Biases")
    own: tuple[str, ...] = setting(
        (), "registered trackers to mirror to as well", Registered("tracker")
    )
