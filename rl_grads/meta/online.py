"""Meta-learning while an agent trains: learned numbers, moved by an outer optimizer.

Each number lives on the real line, behind the bijector of its domain; `insert` puts
its value where the config had one. An outer update takes one meta-gradient and gives
back the inner state at its end, so that training goes on from there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads import register
from rl_grads.config import schema_name
from rl_grads.meta import learned
from rl_grads.meta.estimate import Estimate, Task
from rl_grads.meta.estimators import from_settings
from rl_grads.meta.inner import Problem
from rl_grads.meta.truth import meter
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree, State


class MetaState(NamedTuple):
    """What meta-learning carries.

    Attributes:
        real: Learned numbers on the real line, by dotted path.
        optimizer: State of the outer optimizer.
        memory: That of the estimator.
        previous: What the last inner update started from and saw, where an outer loss
            has to wait for the next batch; else None.
    """

    real: learned.Learned
    optimizer: Any
    memory: Any
    previous: Any = None


def init(config: Config, state: State) -> MetaState | None:
    """The state before the first update; None where nothing is learned.

    Args:
        config: The whole config; its numbers are what learning starts from.
        state: The agent's.
    """
    if config.meta.learn is None:
        return None
    names = learned.expand(config, config.meta.learn)
    values = learned.values(config, names)
    real = jax.tree.map(jnp.asarray, learned.to_real(config, values))
    return MetaState(
        real=real,
        optimizer=_optimizer(config).init(real),
        memory=from_settings(config.meta).init(real, state),
    )


def _optimizer(config: Config) -> optax.GradientTransformation:
    settings = config.meta.optimizer
    return register.get("optimizer", schema_name(settings))(settings)


def metrics(config: Config, real: learned.Learned) -> dict[str, jax.Array]:
    """The values of learned numbers, as `learned/PATH`."""
    values = learned.to_domain(config, real)
    return {f"learned/{name}": value for name, value in values.items()}


class Outcome(NamedTuple):
    """What an outer update leaves behind."""

    meta: MetaState
    estimate: Estimate
    metrics: dict[str, jax.Array]


def update(config: Config, meta: MetaState, problem: Problem, task: Task) -> Outcome:
    """One outer update; one whose meta-gradient is not finite is not made.

    Args:
        config: The whole config at this moment; `meta` is read.
        meta: The state.
        problem: What is learned in it are numbers on the real line.
        task: State, batches, data and key; `eta` is set here.
    """
    estimator, task = from_settings(config.meta), task._replace(eta=meta.real)
    found = estimator.estimate(problem, task, meta.memory)
    steps, optimizer = _optimizer(config).update(
        found.gradient, meta.optimizer, meta.real
    )
    new = meta._replace(
        real=optax.apply_updates(meta.real, steps),
        optimizer=optimizer,
        memory=found.memory,
    )
    norm = optax.tree.norm(found.gradient)
    finite = jnp.isfinite(norm)
    report = {
        "meta/loss": found.loss,
        "meta/gradient_norm": norm,
        "meta/skipped": 1.0 - finite,
    }
    if config.meta.truth_meter:
        truth = meter(estimator, problem, task)
        report |= {"meta/cosine": truth.cosine, "meta/bias": truth.bias}
    return Outcome(choose(finite, new, meta), found, report)


def choose(which: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """One of two states, leaf by leaf."""
    return jax.tree.map(lambda n, o: jnp.where(which, n, o), new, old)
