"""Reinforcement learning in the plane: a policy that finds a goal in two updates.

A task is a goal, uniform in [-.5, .5]^2. A point begins at the origin, moves by at most
.1 in each coordinate and is paid minus its distance to the goal after each of 100
steps; an episode ends early within .01 of the goal in both coordinates (Finn et al.
2017, section 5.3, and their code). The policy sees where it is and not where the goal
is: it must find out by policy gradients of 20 trajectories each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_grads import prng
from rl_grads.agents import networks, policy_gradient
from rl_grads.agents.policy_gradient import Trajectories
from rl_grads.agents.schema import MLP
from rl_grads.meta import few_shot
from rl_grads.meta.estimate import check_count
from rl_grads.meta.few_shot import Budget, FewShot, Progress
from rl_grads.meta.inner import Batch, Descent, problem, with_params
from rl_grads.meta.unrolled import full
from rl_grads.typing import Params, PyTree, Section, State

GOALS = 0.5
REACH, CLOSE, HORIZON = 0.1, 0.01, 100
TRAJECTORIES = 20
DISCOUNT = 0.98
STEP_SIZES = (0.5, 0.25)
LEARNING_RATE = 2e-3
NETWORK = networks.mlp(MLP(hidden=(32, 32), activation="tanh"), 2)
POLICY = policy_gradient.gaussian(NETWORK)


# -------------------------------------------------------------------------- environment


class Moved(NamedTuple):
    """Where a step leads, what it is paid, and whether it reaches the goal."""

    position: jax.Array
    reward: jax.Array
    reached: jax.Array


def move(position: jax.Array, action: jax.Array, goal: jax.Array) -> Moved:
    """One step of the environment.

    Args:
        position: `[2]`.
        action: `[2]`, clipped to [-1, 1] and then scaled to at most .1.
        goal: `[2]`.

    Example:
        >>> goal = jnp.array([0.4, 0.3])
        >>> moved = move(jnp.zeros(2), jnp.array([1.0, -9.0]), goal)
        >>> moved.position.tolist(), moved.reward.item(), moved.reached.item()
        ([0.10000000149011612, -0.10000000149011612], -0.5, False)
    """
    position = position + REACH * jnp.clip(action, -1, 1)
    away = position - goal
    distance = jnp.linalg.norm(away)
    return Moved(position, -distance, jnp.all(jnp.abs(away) < CLOSE))


class _Point(NamedTuple):
    position: jax.Array
    alive: jax.Array


def episode(params: Params, goal: jax.Array, noise: jax.Array) -> Trajectories:
    """One trajectory `[T, ...]` of the policy.

    Args:
        params: Of the policy.
        goal: `[2]`.
        noise: Standard normal, `[T, 2]`; zeros give the policy's means.
    """

    def step(point: _Point, noise: jax.Array) -> tuple[_Point, Trajectories]:
        action = POLICY.act(params, point.position, noise)
        moved = move(point.position, action, goal)
        recorded = Trajectories(
            s_tm1=point.position,
            a_tm1=action,
            r_t=moved.reward * point.alive,
            alive=point.alive,
            log_prob=POLICY.log_prob(params, point.position, action),
        )
        return _Point(moved.position, point.alive * (1 - moved.reached)), recorded

    return jax.lax.scan(step, _Point(jnp.zeros(2), jnp.ones(())), noise)[1]


def episodes(params: Params, task: "Task", spread: float = 1.0) -> Trajectories:
    """Trajectories `[20, T, ...]` of the policy in a task.

    How they came about has no derivative: they are data.

    Args:
        params: Of the policy.
        task: The task.
        spread: Factor of the noise; 0 for the policy's means.
    """
    noise = spread * jax.random.normal(task.key, (TRAJECTORIES, HORIZON, 2))
    params = jax.lax.stop_gradient(params)
    return jax.vmap(episode, (None, None, 0))(params, task.goal, noise)


# -------------------------------------------------------------------------------- tasks


class Task(NamedTuple):
    """A goal `[2]`, and the key of what is drawn."""

    goal: jax.Array
    key: jax.Array


class Experience(NamedTuple):
    """What a policy gradient is made of."""

    trajectories: Trajectories
    weights: jax.Array


def experience(params: Params, task: Task) -> Experience:
    seen = episodes(params, task)
    gained = policy_gradient.advantages(seen, DISCOUNT)
    return Experience(seen, policy_gradient.normalised(gained, seen.alive))


def _loss(params: Params, seen: Experience, config: Section) -> jax.Array:
    return policy_gradient.loss(POLICY, params, *seen)


def _step_size(count: PyTree) -> jax.Array:
    return jnp.asarray(STEP_SIZES)[count]


_DESCENT = Descent(_loss, lambda config: optax.sgd(_step_size))


def _update(state: State, task: Task, weights: PyTree, config: Section) -> PyTree:
    """One inner update: trajectories of the policy as it is, then a step."""
    return _DESCENT(state, experience(state.params, task), weights, config)


def _outer(state: State, task: Task) -> jax.Array:
    """Minus the mean return, with a policy gradient for its derivative."""
    seen = experience(state.params, task)
    surrogate = _loss(state.params, seen, None)
    value = -jnp.mean(policy_gradient.returns(seen.trajectories))
    return surrogate + jax.lax.stop_gradient(value - surrogate)


def draw_goal(key: jax.Array) -> jax.Array:
    """A goal of the distribution, `[2]`."""
    return jax.random.uniform(key, (2,), minval=-GOALS, maxval=GOALS)


def sample(key: jax.Array) -> tuple[Batch, Task]:
    """A task: what each update sees, and what the outer loss does."""
    key_goal, key = jax.random.split(key)
    return at(draw_goal(key_goal), key)


def at(goal: jax.Array, key: jax.Array) -> tuple[Batch, Task]:
    """The same for a given goal."""
    keys = jax.random.split(key, len(STEP_SIZES) + 1)
    goals = few_shot.repeated(goal, len(STEP_SIZES))
    return Batch(Task(goals, keys[1:])), Task(goal, keys[0])


def setting() -> FewShot:
    """Goals, and two policy gradient updates."""
    posed = problem(_update, _outer, configure=lambda eta: None)
    return FewShot(sample, posed, _DESCENT.init(random_params(0), None))


def random_params(seed: int | jax.Array) -> PyTree:
    """Parameters of a policy that has learned nothing."""
    return POLICY.init(prng.key(seed), jnp.zeros(2))


def budget(updates: int) -> Budget:
    """Of learning: forty goals per update, and a step size that falls to 5 %.

    Raises:
        ValueError: `updates` is no positive integer.
    """
    check_count("updates", updates)
    falling = optax.cosine_decay_schedule(LEARNING_RATE, updates, 0.05)
    return Budget(updates, 40, falling, max_norm=0.2)


def begin(budget: Budget, seed: int | jax.Array) -> Progress:
    """A random start, to be learned.

    Args:
        budget: How long it will be.
        seed: Of the parameters.
    """
    return few_shot.begin(random_params(seed), budget)


def advance(
    budget: Budget, progress: Progress, keys: jax.Array
) -> tuple[Progress, jax.Array]:
    """Learn by MAML for a stretch.

    Args:
        budget: How long it will be in the end.
        progress: What `begin` or an earlier stretch gave.
        keys: PRNG keys of goals and trajectories, one per update, `[n]`.

    Returns:
        Where learning stands, and mean returns after two updates, `[n]`.
    """
    found, losses = few_shot.advance(setting(), full(None), progress, budget, keys)
    return found, -losses


# ----------------------------------------------------------------------------- measures


def published_goals() -> np.ndarray:
    """The forty goals of the original evaluation, `[40, 2]`: by numpy's old generator.

    Standing still scores -40.1 on them and the shortest way -0.54, as published.
    """
    return np.random.RandomState(1).uniform(-GOALS, GOALS, (40, 2))


def standing_still(goals: PyTree) -> jax.Array:
    """Returns of a point that stays at the origin, `[goals]`."""
    return -HORIZON * jnp.linalg.norm(jnp.asarray(goals), axis=-1)


def shortest_way(goals: PyTree) -> jax.Array:
    """Returns of a point that knows its goal, `[goals]`."""

    def way(goal: jax.Array) -> jax.Array:
        def step(position: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            moved = move(position, (goal - position) / REACH, goal)
            return moved.position, moved.reward

        return jnp.sum(jax.lax.scan(step, jnp.zeros(2), None, HORIZON)[1])

    return jax.vmap(way)(jnp.asarray(goals))


class Trial(NamedTuple):
    """A goal, met with two updates; after 0, 1 and 2 of them.

    Attributes:
        returns: Means over 20 fresh trajectories, `[3]`.
        calm: Returns of the policy without its noise, `[3]`.
        path: Positions without noise, `[3, T, 2]`; nan after the end.
    """

    returns: jax.Array
    calm: jax.Array
    path: jax.Array


def meet(params: Params, goal: jax.Array, key: jax.Array) -> Trial:
    """Meet one goal.

    Args:
        params: Of the policy before any update.
        goal: `[2]`.
        key: PRNG key.
    """
    tasks, (batches, task) = setting(), at(goal, key)

    def step(state: State, batch: Batch) -> tuple[PyTree, PyTree]:
        state, _ = tasks.problem.step({}, state, batch)
        return state, state.params

    later = jax.lax.scan(step, with_params(tasks.state, params), batches)[1]
    each = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), params, later)
    noisy = jax.vmap(episodes, (0, None))(each, task)
    calm = jax.vmap(episode, (0, None, None))(each, goal, jnp.zeros((HORIZON, 2)))
    before = jnp.pad(calm.alive[:, :-1], ((0, 0), (1, 0)), constant_values=1)
    return Trial(
        returns=jnp.mean(policy_gradient.returns(noisy), -1),
        calm=policy_gradient.returns(calm),
        path=jnp.where(before[..., None] > 0, calm.s_tm1, jnp.nan),
    )


def meet_all(params: Params, goals: PyTree, seed: int = 0) -> Trial:
    """Meet goals `[n, 2]`, each from the same start; fields are `[n, 3, ...]`.

    Args:
        params: Of the policy before any update.
        goals: The goals.
        seed: Of trajectories.

    Raises:
        ValueError: Goals of another shape.
    """
    goals = jnp.asarray(goals)
    if goals.ndim != 2 or goals.shape[1] != 2:
        raise ValueError(f"goals: expected the shape [n, 2], got {goals.shape}")
    keys = jax.random.split(prng.key(seed), len(goals))
    return jax.vmap(meet, (None, 0, 0))(params, goals, keys)
