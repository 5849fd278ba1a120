"""Navigation in the plane: policies that find a goal in two updates (Finn et al. 2017).

    python -m experiments.meta_navigation_2d PICTURE [--updates 1200] [--seeds 2]

Prints returns after 0, 1 and 2 updates as tables, and draws training and a few paths.
Each seed trains on a core of its own.
"""

import argparse
import pathlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from rl_grads import prng
from rl_grads.analysis import plots
from rl_grads.cli import few_shot
from rl_grads.studies import meta_navigation_2d as navigation_2d
from rl_grads.studies.meta_navigation_2d import Trial
from rl_grads.training import devices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED = "| published | -40.4 | -11.7 | -3.33 |"
FRESH, FRESH_SEED = 400, 1000
UPDATES, SEEDS = 1200, 2
STRETCH = 20  # Updates between two reports.
SMOOTH, SHOWN = 10, 6  # Updates of a point of the curve, and goals with their paths.
STEPS = 30  # Of a path: later ones stand still.


class Learned(NamedTuple):
    """Starts of all seeds.

    Attributes:
        params: Of the policies, `[seeds, ...]`.
        curve: Mean returns after two updates over training, `[seeds, updates]`.
    """

    params: Any
    curve: np.ndarray


def learn(updates: int, seeds: int) -> Learned:
    """Learn starts of seeds 0, 1, .., spread over the local devices."""
    budget = navigation_2d.budget(updates)
    layout = devices.layout(seeds)
    given = devices.put(layout, np.arange(seeds))
    progress = _each(layout, partial(navigation_2d.begin, budget))(given)
    keys = _each(layout, lambda seed: _keys(seed, updates))(given)
    advance = _each(layout, partial(navigation_2d.advance, budget))
    curve = []
    for at in range(0, updates, STRETCH):
        progress, found = advance(progress, keys[:, at : at + STRETCH])
        curve.append(np.asarray(found)[:seeds])
        print(f"{at + STRETCH:6d} updates: {curve[-1].mean(1).round(2)}", flush=True)
    params = jax.tree.map(lambda x: np.asarray(x)[:seeds], progress.params)
    return Learned(params, np.concatenate(curve, 1))


def _each(layout: devices.Layout, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one seed as one compiled function of all."""
    spec = jax.sharding.PartitionSpec("members")
    return jax.jit(
        jax.shard_map(
            jax.vmap(function),
            mesh=layout.mesh,
            in_specs=spec,
            out_specs=spec,
            check_vma=False,
        )
    )


def _keys(seed: jax.Array, updates: int) -> jax.Array:
    return jax.random.split(jax.random.fold_in(prng.key(seed), 1), updates)


def measure(learned: Learned, goals: np.ndarray) -> dict[str, Trial]:
    """How a random start and the learned ones meet goals, by name."""
    test = jax.jit(navigation_2d.meet_all)
    found = {"random start": test(navigation_2d.random_params(0), goals)}
    for seed in range(len(learned.curve)):
        params = jax.tree.map(lambda x, seed=seed: x[seed], learned.params)
        found[f"learned, seed {seed}"] = test(params, goals)
    return found


def table(trials: dict[str, Trial], goals: np.ndarray) -> str:
    """Means over goals with their intervals, in Markdown."""
    known = {
        "standing still": navigation_2d.standing_still(goals),
        "shortest way": navigation_2d.shortest_way(goals),
    }
    rows = {k: np.repeat(np.asarray(v)[:, None], 3, 1) for k, v in known.items()}
    for name, trial in trials.items():
        rows[name] = np.asarray(trial.returns)
        rows[f"{name}, without noise"] = np.asarray(trial.calm)
    return few_shot.table(rows, (0, 1, 2))


# ------------------------------------------------------------------------------- figure


class Shown(NamedTuple):
    """What is drawn.

    Attributes:
        updates: Outer updates at the end of each stretch, `[n]`.
        returns: Means over a stretch, `[seeds, n]`.
        paths: Ways to a few goals after one and two updates, `[goals, 2, T, 2]`.
        goals: `[goals, 2]`.
    """

    updates: np.ndarray
    returns: np.ndarray
    paths: np.ndarray
    goals: np.ndarray


def shown(learned: Learned, trial: Trial, goals: np.ndarray) -> Shown:
    """Training in stretches, and the ways of one start to the first goals."""
    seeds, updates = learned.curve.shape
    size = min(SMOOTH, updates)
    count = updates // size
    stretches = learned.curve[:, : count * size].reshape(seeds, count, size)
    return Shown(
        updates=size * (1 + np.arange(count)),
        returns=stretches.mean(-1),
        paths=np.asarray(trial.path)[:SHOWN, 1:, :STEPS],
        goals=np.asarray(goals)[:SHOWN],
    )


def figure(given: Shown) -> "Figure":
    """Training of all seeds beside the ways to a few goals."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = made.subplots(1, 2, width_ratios=(1.4, 1))
    _draw_training(left, given)
    _draw_paths(right, given)
    return made


def _draw_training(axes: "Axes", given: Shown) -> None:
    for seed, line in enumerate(given.returns):
        axes.plot(given.updates, -line, label=f"seed {seed}", **plots.look(seed))
    axes.axhline(3.33, color="0.5", linestyle=":", label="published")
    axes.set_yscale("log")
    axes.set_xlabel("outer updates")
    axes.set_ylabel("minus the return after two updates [reward]")
    size = int(given.updates[0])
    goals = navigation_2d.budget(UPDATES).tasks
    title = f"means over {size} updates of n = {goals} goals each"
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _draw_paths(axes: "Axes", given: Shown) -> None:
    for k, (goal, ways) in enumerate(zip(given.goals, given.paths, strict=True)):
        color = plots.look(k)["color"]
        for way, style in zip(ways, (":", "-"), strict=True):
            axes.plot(*way.T, style, color=color)
        axes.plot(*goal, "*", color=color, markersize=11)
    axes.set_title("ways after one (dotted) and two updates", fontsize="medium")
    axes.set_xlabel("first coordinate")
    axes.set_ylabel("second coordinate")
    axes.set_xlim(-0.6, 0.6)
    axes.set_ylim(-0.6, 0.6)
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)


def main() -> None:
    """Learn, print the tables and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    devices.use_cores(min(devices.available_cores(), arguments.seeds))
    learned = learn(arguments.updates, arguments.seeds)
    draws = np.random.default_rng(FRESH_SEED)
    fresh = draws.uniform(-navigation_2d.GOALS, navigation_2d.GOALS, (FRESH, 2))
    known = navigation_2d.published_goals()
    trials = measure(learned, known)
    print(f"the authors' 40 goals\n\n{table(trials, known)}\n{PUBLISHED}\n")
    print(f"{FRESH} other goals\n\n{table(measure(learned, fresh), fresh)}")
    made = figure(shown(learned, trials["learned, seed 0"], known))
    plots.save(made, arguments.picture)


if __name__ == "__main__":
    main()
