"""Whether steps, updates and places fit each other, and have numbers in int32."""

from rl_grads.config import LARGEST_COUNT
from rl_grads.replay import priorities
from rl_grads.training.checks.refusal import refuse
from rl_grads.training.schema import Config


def check(config: Config) -> None:
    """Refuse lengths that do not fit each other.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    _check_steps(config)
    _check_places(config)


def _check_steps(config: Config) -> None:
    training = config.training
    per = training.num_envs * training.num_steps
    if training.total_steps < per:
        expected = f"at least training.num_envs * training.num_steps ({per})"
        refuse("training.total_steps", training.total_steps, expected)
    if config.replay is None:
        if training.updates_per_iteration != 1:
            expected = "1 where replay is null: new transitions are used once"
            refuse(
                "training.updates_per_iteration",
                training.updates_per_iteration,
                expected,
            )
    elif training.warmup_steps + per > training.total_steps:
        expected = f"less than training.total_steps ({training.total_steps})"
        refuse("training.warmup_steps", training.warmup_steps, expected)
    most = LARGEST_COUNT // (training.total_steps // per)
    if training.updates_per_iteration > most:
        expected = f"at most {most} beside so many steps: updates are counted in int32"
        updates = training.updates_per_iteration
        refuse("training.updates_per_iteration", updates, expected)


def _check_places(config: Config) -> None:
    """Refuse a memory or a draw of which not every place has a number in int32."""
    training, replay = config.training, config.replay
    if replay is None:
        return
    draws = LARGEST_COUNT // training.batch_size
    if priorities.scheme(config).resamples and replay.large_batch > draws:
        expected = f"at most {draws} beside training.batch_size={training.batch_size}"
        refuse("replay.large_batch", replay.large_batch, expected)
    per = training.num_envs * training.num_steps
    room = LARGEST_COUNT - 2 * per - training.num_envs  # Of whole blocks, one unused.
    if replay.capacity > room:
        expected = f"at most {room} beside {per} new transitions in an iteration"
        refuse("replay.capacity", replay.capacity, expected)
