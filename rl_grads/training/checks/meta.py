"""The door of meta-learning: what a config cannot learn."""

import functools
from collections.abc import Sequence
from typing import NoReturn

import jax
import jax.numpy as jnp

from rl_grads import prng
from rl_grads.config import ConfigError
from rl_grads.gradients.per_example_clip import is_asked
from rl_grads.meta import learned
from rl_grads.meta.estimate import Task
from rl_grads.meta.estimators import REFUSED, check_valid, from_settings
from rl_grads.meta.inner import Batch
from rl_grads.meta.reach import check_reach
from rl_grads.replay import priorities
from rl_grads.training import collecting, engine, learning, loop, meta_learning
from rl_grads.training.member import MemberState, Parts
from rl_grads.training.schema import Config, replay_of
from rl_grads.typing import PyTree


def check(config: Config, given: engine.Given) -> None:
    """Refuse a section `meta` that does not fit the rest of the config.

    Args:
        config: The whole config, with Python numbers.
        given: The environment that training will use, and the agent if handed over.

    Raises:
        ConfigError: Names the key, its value and what was expected.
    """
    settings = config.meta
    if settings.learn is None:
        return
    if learned.INITIAL in settings.learn:
        expected = (
            "numbers of the config; initial parameters are learned over many tasks, "
            "see rl_grads.meta.gradient"
        )
        _refuse("learn", learned.INITIAL, expected)
    names = learned.expand(config, settings.learn)
    learned.check(config, names, settings.sampling or ())
    _check_batch(config, names)
    _check_corrected(config, names)
    learned.check_edges(config, names)
    reason = REFUSED[settings.estimator].semi_gradient
    if reason is not None:
        _refuse("estimator", settings.estimator, f"another; {reason}")
    check_valid(settings.estimator, settings.learn)
    _check_counts(config)
    _check_clip(config)
    _check_reach(engine.parts(given, config))


def _refuse(key: str, value: PyTree, expected: str) -> NoReturn:
    raise ConfigError(f"meta.{key}={value}: expected {expected}")


def _check_counts(config: Config) -> None:
    updates, settings = config.training.updates_per_iteration, config.meta
    if updates % settings.steps:
        expected = f"a divisor of training.updates_per_iteration ({updates})"
        _refuse("steps", settings.steps, expected)
    if config.replay is None and from_settings(settings).further:
        expected = "0 where replay is null: there is no further batch"
        _refuse("target_steps", settings.target_steps, expected)


def _check_clip(config: Config) -> None:
    """Refuse a clip inside the graph that would also cut the outer derivative.

    Only the mean gradient spends it, see `estimators.mean_gradient`.
    """
    clip, scheme = config.gradient.clip, priorities.scheme(config)
    given = {"max_abs": clip.max_abs, "max_norm": clip.max_norm}
    each = scheme.resamples or scheme.needs == "gradient_norm"
    for name, limit in given.items():
        if limit is not None and (each or is_asked(config)):
            raise ConfigError(
                f"gradient.clip.{name}={limit:g}: expected null beside meta.learn "
                "where gradients of single examples are taken (gradient.per_example, "
                "replay.priority); it would cut the meta-gradient as well"
            )


def _check_batch(config: Config, names: Sequence[str]) -> None:
    """Refuse a batch of one out of a memory: it says nothing of what else there is."""
    if config.replay is None or config.training.batch_size > 1:
        return
    for name in names:
        if learned.where_it_acts(name) == "sampling":
            _refuse("learn", name, "training.batch_size of at least 2 to compare draws")


def _check_corrected(config: Config, names: Sequence[str]) -> None:
    """Refuse an exponent of priorities that the importance weights undo."""
    if (
        "replay.exponent" not in names
        or replay_of(config).importance.normalise == "max"
    ):
        return
    importance = replay_of(config).importance
    if importance.exponent == 1 and importance.exponent_final in (None, 1):
        expected = (
            "replay.importance.exponent below 1; with weights that correct the draws "
            "in full, the expected update does not depend on them"
        )
        _refuse("learn", "replay.exponent", expected)


def _check_reach(parts: Parts) -> None:
    """Refuse numbers that the outer loss does not depend on, by shapes alone."""
    config = parts.config
    zero = jnp.int32(0)

    def pose(key: jax.Array) -> PyTree:
        member = loop.init(parts, key)
        keys = collecting.iteration_keys(key, zero, config.training)
        return member, collecting.collect(parts, member, keys)[1]

    member, new = jax.eval_shape(pose, prng.key(0))
    configure = functools.partial(learned.current, config, 0.5)
    lead = (config.meta.steps, _batch_size(config))
    program = meta_learning.Training(
        parts.agent, config, configure, learning.transition
    )
    task = Task(
        eta=member.meta.real,
        state=member.agent,
        batches=Batch(_shapes(new, lead), ratio=_ratio(member, lead)),
        data=Batch(_shapes(new, lead[1:])),
    )
    check_reach(meta_learning.make_problem(program), task)


def _batch_size(config: Config) -> int:
    """Transitions of an update: agents in order of time want whole steps."""
    training = config.training
    if config.replay is None:
        return training.num_envs * training.num_steps
    return training.batch_size


def _ratio(member: MemberState, lead: tuple[int, ...]) -> PyTree:
    """The shape of what a prioritised memory says of its draws; else None."""
    if member.memory is None or member.memory.priorities is None:
        return None
    return jax.ShapeDtypeStruct(lead, jnp.float32)


def _shapes(new: PyTree, lead: tuple[int, ...]) -> PyTree:
    """Shapes of transitions `[T, E, ...]` with other leading axes."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*lead, *x.shape[2:]), x.dtype), new
    )
