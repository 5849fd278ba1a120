"""What prioritised replay costs, and how exact its sums are.

    python scripts/benchmark_replay.py [--updates 2000] [--rounds 7]

Three tables: draw and update of the sums alone; a DQN update (draw, weights, gradient,
priorities) under each preset of `configs/replay/` against the uniform one, network
120-84, batch 128, buffer 100k, one member on one device; rounding and zero priorities.
Sides alternate in one process; times are medians over the rounds.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import config as configs
from rl_grads.replay import blocked_sums
from rl_grads.replay.buffer import Experience
from rl_grads.training import devices, learning

SIZES = ((2**20, 256), (100_000, 128), (1000, 32))
PRESETS = (
    "buffer",
    "per",
    "gradient_norm",
    "gradient_norm_last_layer",
    "rank",
    "loss_adjusted",
    "large_batch",
)


class Side(NamedTuple):
    """One of the things timed: a name and a call that runs so many updates."""

    name: str
    run: Callable[[], Any]


def sums_side(capacity: int, batch_size: int, updates: int) -> Side:
    """Draw a batch and give it new priorities, in a scan."""

    def step(tree: Any, key: jax.Array) -> tuple[Any, None]:
        key_draw, key_new = jax.random.split(key)
        slots = blocked_sums.draw(key_draw, tree, batch_size)
        new = jax.random.uniform(key_new, (batch_size,))
        return blocked_sums.put(tree, slots, new), None

    @functools.partial(jax.jit, donate_argnums=0)
    def program(tree: Any, keys: jax.Array) -> Any:
        return jax.lax.scan(step, tree, keys)[0]

    tree = [blocked_sums.build(jnp.ones(capacity))]
    keys = jax.random.split(jax.random.key(0), updates)

    def run() -> Any:
        tree[0] = program(tree[0], keys)
        return tree[0]

    return Side(f"{batch_size} of {capacity}", run)


def dqn_config(preset: str) -> Any:
    """DQN on CartPole with a full buffer, its replay section from a preset."""
    from rl_grads.cli import compose

    overrides = [f"replay={preset}", "replay.capacity=100_000"]
    with compose.composer(compose.read(overrides)) as composed:
        config = compose.to_config(compose.without_hydra(composed(overrides, False)))
    changes = {
        "agent.loss": "q_learning",
        "agent.target.period": 500,
        "agent.target.polyak": None,
        "network.layer_norm": False,
        "network.hidden": (120, 84),
        "seeds": 1,
        "training.batch_size": 128,
        "training.total_steps": 1_000_000,
        "training.warmup_steps": 110_000,
    }
    return configs.canonical(configs.replace(config, changes))


def update_side(preset: str, updates: int) -> Side:
    """The updates of an iteration that makes so many of them."""
    from rl_grads.training import engine, run
    from rl_grads.training.population import population

    config = dqn_config(preset)
    given = engine.Given(None, None)
    plan = run.plan_for(given, population(config))
    start = run.start(plan)
    member = [jax.tree.map(lambda x: x[0], start.members)]
    steps = start.iteration * config.training.num_steps

    @functools.partial(jax.jit, donate_argnums=1)
    def program(config: Any, member: Any, keys: jax.Array) -> Any:
        parts = engine.parts(given, config)
        return learning.learn(parts, member, jnp.int32(steps), keys, unused)[0]

    keys = jax.random.split(jax.random.key(1), updates)
    none = jnp.zeros(0)  # Only learning online reads what is new.
    unused = Experience(none, none, none, none, none, none, none)

    def advance() -> Any:
        member[0] = program(config, member[0], keys)
        return member[0].agent.params

    return Side(preset, advance)


def measure(sides: Sequence[Side], updates: int, rounds: int) -> dict[str, float]:
    """Median microseconds per update of every side; they take turns."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(rounds + 1):
        for side in sides:
            begun = time.perf_counter()
            jax.block_until_ready(side.run())
            if turn:  # The first turn compiles.
                times[side.name].append(time.perf_counter() - begun)
    return {n: 1e6 * statistics.median(t) / updates for n, t in times.items()}


def root_error(updates: int = 1_000_000, capacity: int = 2**20) -> float:
    """Relative error of the root after random updates, against float64."""

    def step(tree: Any, key: jax.Array) -> tuple[Any, None]:
        key_slot, key_value = jax.random.split(key)
        slots = jax.random.randint(key_slot, (1000,), 0, capacity)
        values = 10 ** jax.random.uniform(key_value, (1000,), minval=-5, maxval=5)
        return blocked_sums.put(tree, slots, values), None

    keys = jax.random.split(jax.random.key(0), updates // 1000)
    program = jax.jit(lambda tree: jax.lax.scan(step, tree, keys)[0])
    tree = program(blocked_sums.create(capacity))
    exact = np.asarray(tree.levels[0], np.float64).sum()
    return abs(float(blocked_sums.total(tree)) / exact - 1)


def draws_of_zero(draws: int = 10_000_000, capacity: int = 2**20) -> int:
    """How often slots of priority zero, half of all, are drawn."""
    key_zero, key_value, key = jax.random.split(jax.random.key(0), 3)
    is_zero = jax.random.bernoulli(key_zero, 0.5, (capacity,))
    values = 10 ** jax.random.uniform(key_value, (capacity,), minval=-4, maxval=4)
    tree = blocked_sums.build(jnp.where(is_zero, 0.0, values))

    def step(count: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return count + jnp.sum(is_zero[blocked_sums.draw(key, tree, 1000)]), None

    program = jax.jit(lambda keys: jax.lax.scan(step, jnp.int32(0), keys)[0])
    return int(program(jax.random.split(key, draws // 1000)))


def table(*rows: Sequence[str]) -> str:
    """Markdown, the first row being the head."""
    head, *body = rows
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)
    )


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    given = (arguments.updates, arguments.rounds)
    print(f"{devices.describe()}, jax {jax.__version__}\n")
    sums = measure([sums_side(*s, arguments.updates) for s in SIZES], *given)
    rows = [(name, f"{us:.1f}") for name, us in sums.items()]
    print(table(("draw and update", "us"), *rows), end="\n\n")
    from rl_grads.cli import compose

    compose.store_schemas()
    times = measure([update_side(p, arguments.updates) for p in PRESETS], *given)
    rows = [(n, f"{us:.1f}", f"{us / times['buffer']:.2f}") for n, us in times.items()]
    print(table(("replay=", "us per update", "ratio"), *rows), end="\n\n")
    exact = (
        ("relative error of the root after 1e6 updates", f"{root_error():.1e}"),
        ("slots of priority zero in 1e7 draws", str(draws_of_zero())),
    )
    print(table(("sums of 2^20 slots", ""), *exact))


if __name__ == "__main__":
    main()
