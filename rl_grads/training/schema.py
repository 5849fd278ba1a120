"""The whole config. Imports no JAX."""

from typing import Any

from rl_grads.agents.schema import MLP, QLearning
from rl_grads.config import (
    at_least,
    between,
    config,
    group,
    number,
    one_of,
    positive,
    setting,
    unit,
)
from rl_grads.envs.schema import Env
from rl_grads.gradients.schema import Adam, Gradient
from rl_grads.meta.schema import Meta
from rl_grads.register import numbers
from rl_grads.replay.schema import Replay
from rl_grads.search.schema import Grid
from rl_grads.tracking.schema import Tracking
from rl_grads.training.diagnostics.schema import Diagnostics

LARGEST_SEED = 2**32 - 1  # A seed is a uint32 of the program.
MOST_MEMBERS = 2**20  # Each one is a row of every file and line of a table.
# Keys of earlier versions; folders that have them are read.
RENAMED = {"tracking.wandb.runs": "tracking.runs"}


@config
class Training:
    """Length and shape of training. All counts are per member."""

    total_steps: int = setting(
        100_000, "environment steps, over all environments of a member", at_least(1)
    )
    schedule_steps: int | None = setting(
        None,
        "environment steps that schedules take, behind which they stay at their end; "
        "null: total_steps",
        at_least(1),
    )
    total_episodes: int | None = setting(
        None, "stop a member after so many episodes (or at total_steps)", at_least(1)
    )
    num_envs: int = setting(1, "environments acted in at once", at_least(1))
    num_steps: int = setting(1, "steps in each environment per iteration", at_least(1))
    updates_per_iteration: int = setting(1, "updates per iteration", at_least(1))
    batch_size: int = setting(64, "transitions per update (with replay)", at_least(1))
    warmup_steps: int = setting(
        1000, "environment steps before the first update (with replay)", at_least(1)
    )
    nonfinite_guard: bool = setting(
        True, "freeze a member at its first non-finite gradient"
    )


@config
class Evaluation:
    """Greedy episodes with the parameters or their average, apart from training."""

    episodes: int = setting(100, "episodes per evaluation", at_least(1))
    interval: int | None = setting(
        10_000, "environment steps between evaluations; null: at the end", at_least(1)
    )
    max_steps: int = setting(
        10_000, "longest evaluation episode where nothing truncates it", at_least(1)
    )
    average_window: float | None = number(
        None,
        "fraction of the updates so far over which an average of the parameters "
        "reaches that is evaluated in their place; null: they themselves are",
        unit,
    )


@config
class Checkpoint:
    """Saved state, from which `resume` continues."""

    interval: int | None = setting(
        None,
        "environment steps between checkpoints, which a finished run then keeps; "
        "null: none",
        at_least(1),
    )
    seconds: float | None = number(
        60.0,
        "seconds between checkpoints as well, at logged rows, or longer where saving "
        "would take more than 3 % of the time; null: none",
        positive,
    )
    keep: int = setting(1, "how many of the newest are kept", at_least(1))


@config
class RunSection:
    """Where a run's files go."""

    id: str | None = setting(None, "directory below runs/; by default EXPERIMENT/TIME")
    overwrite: bool = setting(
        False, "move a run aside that has this directory (to NAME.replaced-1)"
    )


@config
class Config:
    """Everything that a run depends on."""

    seed: int = setting(0, "first seed", between(0, LARGEST_SEED))
    seeds: int = setting(
        1, "members, one per seed from `seed` on", between(1, MOST_MEMBERS)
    )
    precision: str = setting("float32", "of all numbers", one_of("float32", "float64"))
    resume: str | None = setting(None, "run directory to continue, or auto")
    agent: Any = group(QLearning, "the agent")
    network: Any = group(MLP, "the network")
    env: Env = group(Env, "the environment")
    optimizer: Any = group(Adam, "the optimizer")
    gradient: Gradient = group(Gradient, "what happens to the gradient")
    diagnostics: Diagnostics = group(Diagnostics, "what a run measures of itself")
    meta: Meta = group(Meta, "what is learned of the config itself")
    replay: Replay | None = group(Replay, "replay memory; null: learn online")
    training: Training = group(Training, "length and shape of training")
    evaluation: Evaluation = group(Evaluation, "evaluation")
    checkpoint: Checkpoint = group(Checkpoint, "checkpoints")
    tracking: Tracking = group(Tracking, "what is logged and where")
    run: RunSection = group(RunSection, "where files go")
    sweep: Any = group(Grid, "how a sweep (-m) chooses its points, and cuts them")
    own: Any = group(numbers, "numbers of registered components, by name")


def replay_of(config: Config) -> Replay:
    """The replay section of a config that is known to have one."""
    assert config.replay is not None, "replay=null has no memory"
    return config.replay
