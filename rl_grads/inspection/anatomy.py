"""The anatomy of one update: its batch, example by example.

The run is repeated up to the update (see `repeat`), and the batch is drawn as the
update drew it. That this is the update's own batch is checked twice: the rows around it
come out as recorded, and the iteration's metrics are those that the training program
itself gives.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import config as configs
from rl_grads.agents.agent import AgentState
from rl_grads.autodiff.per_example import gradient_statistics
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment
from rl_grads.gradients import layers
from rl_grads.inspection import repeat
from rl_grads.replay import memory
from rl_grads.td.transition import Transition
from rl_grads.training import collecting, learning, loop, recorded, run
from rl_grads.training.diagnostics import measures
from rl_grads.training.engine import Given, over_members, parts
from rl_grads.training.member import MemberState, Metrics, Parts
from rl_grads.training.population import Member
from rl_grads.training.schema import Config
from rl_grads.typing import Params, PyTree

_TOLERANCE = 1e-3  # Two programs round differently; another batch is far beyond it.


class Which(NamedTuple):
    """Which update of a run.

    Attributes:
        step: Environment step: the update belongs to the iteration that takes it.
        member: Number of the member.
        update: Which of the iteration's updates, from 1; None: the last.
    """

    step: int
    member: int = 0
    update: int | None = None


class Anatomy(NamedTuple):
    """What an update saw and what each example wanted; arrays of NumPy.

    Attributes:
        step: Environment step at the end of its iteration.
        update: Which of the iteration's updates, from 1.
        seed: Of the member.
        begun_at: Environment step from which the run was repeated.
        rows: Recorded rows that came out the same, bit for bit.
        drift: Largest relative difference between the iteration's metrics here and in
            the training program.
        batch: The transitions, `[B, ...]`.
        weights: Their importance weights `[B]`, or None.
        td_error: `[B]`.
        norms: L2 norms of the gradients of their unweighted losses, `[B]`.
        shares: Layer to its part of the squared norm, `[B]`; nan for a zero gradient.
        cosines: Between the gradients, `[B, B]`; nan where one is zero.
        params: The parameters before the update.
        bootstrap_params: Those that its targets were made from.
    """

    step: int
    update: int
    seed: int
    begun_at: int
    rows: int
    drift: float
    batch: Transition
    weights: np.ndarray | None
    td_error: np.ndarray
    norms: np.ndarray
    shares: dict[str, np.ndarray]
    cosines: np.ndarray
    params: Any
    bootstrap_params: Any

    def top(self, count: int) -> list[int]:
        """Places in the batch of the largest gradients; one that is not finite leads.

        Args:
            count: How many, at most.
        """
        order = np.argsort(-np.nan_to_num(self.norms, nan=np.inf), kind="stable")
        return order[:count].tolist()


def anatomy(
    members: Sequence[Member],
    directory: pathlib.Path,
    which: Which,
    given: Given | None = None,
) -> Anatomy:
    """Take one update of a recorded run apart.

    Args:
        members: All members of its population, as they were trained.
        directory: Where its rows and checkpoints lie; it may be one point of several.
        which: The update.
        given: Agent and environment, where they do not come from the config.

    Raises:
        ConfigError: There is no such update, it is of a kind that cannot be taken
            apart, or the run does not come out as it was recorded.

    Example:
        >>> found = anatomy(
        ...     rg.population(config), directory, Which(step=5000)
        ... )  # doctest: +SKIP
        >>> found.norms[found.top(1)]  # doctest: +SKIP
        array([12.5], dtype=float32)
    """
    given = given or Given(None, None)
    with jax.enable_x64(members[0].config.precision == "float64"):
        plan = run.plan_for(given, members)
        where, which = _where(directory, which, len(members))
        number = _update(plan, which)
        iteration = _iteration(plan, where, which)
        _check_kind(plan, parts(given, plan.config).environment)
        again = repeat.repeat(plan, where, iteration)
        _check_active(plan, again.snapshot.members, which)
        seen = _dissect(plan, given, again.snapshot, number)
        drift = _drift(plan, again.snapshot, seen.metrics)
    of_member = jax.tree.map(lambda leaf: np.asarray(leaf[which.member]), seen)
    if not drift <= _TOLERANCE:
        raise ConfigError(
            f"{directory}: expected to draw the batch of step {which.step} again, but "
            f"the metrics of its iteration differ by {drift:.2g}"
        )
    return _result(plan, again, which, number, drift, of_member)


# ------------------------------------------------------------------------ which update


def _refuse(name: str, value: PyTree, expected: str) -> None:
    raise ConfigError(f"{name}={value}: expected {expected}")


def _update(plan: run.Plan, which: Which) -> int:
    """The number of the update in its iteration, from 0."""
    updates = plan.config.training.updates_per_iteration
    update = updates if which.update is None else which.update
    if not 1 <= update <= updates:
        expected = f"one of the {updates} updates of an iteration, from 1"
        _refuse("update", which.update, expected)
    return update - 1


def _where(
    directory: pathlib.Path, which: Which, count: int
) -> tuple[repeat.Where, Which]:
    """The folders of the whole population, and the member by its place there."""
    home, points = recorded.layout(directory, count)
    own = next(p.members for p in points if p.directory == directory)
    if not 0 <= which.member < len(own):
        _refuse("member", which.member, f"one of the run's {len(own)}, from 0")
    return repeat.Where(home, points), which._replace(member=own[which.member])


def _iteration(plan: run.Plan, where: repeat.Where, which: Which) -> int:
    """The iteration that takes the step, from 1."""
    per = run.steps_per_iteration(plan.config)
    first = run.warm_up_iterations(plan.config) * per
    last = max(repeat.recorded(where.points))
    if not first < which.step <= last:
        expected = f"{first + 1} to {last}, the steps in which {where.home} learned"
        _refuse("step", which.step, expected)
    return math.ceil(which.step / per)


def _check_kind(plan: run.Plan, environment: Environment) -> None:
    """Refuse what cannot be run twice, and more than a mean over a batch's examples."""
    if not environment.resamples:
        expected = "one whose states can be stepped twice (gymnax/ID, chain/NAME)"
        _refuse("env", plan.config.env.id, expected)
    state = jax.eval_shape(lambda: run.fresh(plan))
    if state.meta is not None:
        learned = ",".join(plan.config.meta.learn or ())
        expected = "none: updates of a run that learns its config are not taken apart"
        _refuse("meta.learn", f"[{learned}]", expected)
    if state.agent.trace is not None:
        name = configs.schema_name(plan.config.agent)
        expected = "an agent without a trace, whose examples stand for themselves"
        _refuse("agent", name, expected)


def _check_active(plan: run.Plan, members: MemberState, which: Which) -> None:
    """Refuse an update that a member did not make any more."""
    training, k = plan.config.training, which.member
    diverged = training.nonfinite_guard and members.diverged_at[k] >= 0
    wanted = training.total_episodes
    done = wanted is not None and members.episodes.finished[k] >= wanted
    if diverged or done:
        _refuse("step", which.step, f"a step before member {k} stopped learning")


# --------------------------------------------------------------------------- the batch


class _Seen(NamedTuple):
    """What the update of ONE member saw, and the metrics of its iteration."""

    batch: Transition
    weights: jax.Array | None
    td_error: jax.Array
    norms: jax.Array
    squares: dict[str, jax.Array]
    gram: jax.Array
    params: Any
    bootstrap_params: Any
    metrics: Metrics


def _dissect(
    plan: run.Plan, given: Given, snapshot: run.Snapshot, update: int
) -> _Seen:
    """The update of every member, `[members, ...]`, by one program as in training."""
    time = snapshot.iteration * plan.config.training.num_steps
    program = _program(given, plan.layout.mesh, update)
    return program(plan.configs, snapshot.members, time)


@functools.lru_cache(maxsize=16)
def _program(
    given: Given, mesh: jax.sharding.Mesh, update: int
) -> Callable[..., _Seen]:
    def examine(config: Config, member: MemberState, time: jax.Array) -> _Seen:
        return _examine(parts(given, config), member, time, update)

    return jax.jit(over_members(mesh, examine, (0, 0, None)))


def _examine(pieces: Parts, member: MemberState, time: jax.Array, update: int) -> _Seen:
    """One iteration of ONE member, stopped at an update."""
    training = pieces.config.training
    part = loop.progress(training, time)
    pieces = pieces._replace(config=configs.anneal(pieces.config, part))
    keys = collecting.iteration_keys(member.key, time, training)
    moved, new, _ = collecting.collect(pieces, member, keys)
    moved = collecting.store(pieces, moved, time, new)
    after = time + training.num_steps
    _, metrics = learning.learn(pieces, moved, after, keys.learn, new)
    if update:
        moved, _ = learning.learn(pieces, moved, after, keys.learn[:update], new)
    experience, weights = learning.flat(new), None
    if moved.memory is not None and pieces.size is not None:
        key = keys.learn[update]
        drawn = memory.sample(moved.memory, pieces.size, after, key, pieces.config)
        experience, weights = drawn.experience, drawn.weights
    batch = learning.transition(experience, pieces.config)
    if pieces.agent.prepare is not None:
        batch = pieces.agent.prepare(moved.agent, batch, pieces.config)
    seen = _statistics(pieces, moved.agent, batch)
    return seen._replace(weights=weights, metrics=metrics)


def _statistics(pieces: Parts, agent: AgentState, batch: Transition) -> _Seen:
    """What the gradients of the examples say."""
    bootstrap = agent.params if agent.target_params is None else agent.target_params

    def loss(params: Params, example: Transition) -> tuple[jax.Array, PyTree]:
        return pieces.agent.loss(params, bootstrap, example, pieces.config)

    ask = gradient_statistics(loss, layer_norms=True, gram=True, has_aux=True)
    found = ask(agent.params, None, batch)
    assert found.gram is not None
    return _Seen(
        batch=batch,
        weights=None,
        td_error=found.aux.td_error,
        norms=found.norms,
        squares={
            name: sum((jnp.square(n) for n in own), jnp.zeros(()))
            for name, own in layers.layers(found.layer_norms).items()
        },
        gram=found.gram,
        params=agent.params,
        bootstrap_params=bootstrap,
        metrics={},
    )


def _drift(plan: run.Plan, snapshot: run.Snapshot, metrics: Metrics) -> float:
    """Largest relative difference to the same iteration in the training program."""
    trained = repeat.peek(plan, snapshot, snapshot.iteration + 1)
    differences = [0.0]
    for name, here in metrics.items():
        repeated, other = np.asarray(here)[: len(plan.members)], trained[name]
        both = np.isnan(repeated) & np.isnan(other)
        scale = np.maximum(np.maximum(np.abs(repeated), np.abs(other)), 1e-6)
        with np.errstate(invalid="ignore"):
            relative = np.abs(repeated - other) / scale
            apart = np.where((repeated == other) | both, 0.0, relative)
        differences.append(float(np.max(apart)))
    return float(np.max(differences))


def _result(
    plan: run.Plan,
    again: repeat.Repeated,
    which: Which,
    number: int,
    drift: float,
    seen: PyTree,
) -> Anatomy:
    """All of it, from what the member's update saw, as arrays of NumPy."""
    total = np.square(seen.norms)
    per = run.steps_per_iteration(plan.config)
    with np.errstate(invalid="ignore", divide="ignore"), jax.debug_nans(False):
        shares = {name: own / total for name, own in seen.squares.items()}
        cosines = np.asarray(measures.cosines(seen.gram))
    return Anatomy(
        step=(again.snapshot.iteration + 1) * per,
        update=number + 1,
        seed=plan.members[which.member].seed,
        begun_at=again.begun_at,
        rows=again.rows,
        drift=drift,
        batch=seen.batch,
        weights=seen.weights,
        td_error=seen.td_error,
        norms=seen.norms,
        shares=shares,
        cosines=cosines,
        params=seen.params,
        bootstrap_params=seen.bootstrap_params,
    )
