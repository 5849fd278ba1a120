"""Microseconds per training iteration against a floor measured in the same process.

    python scripts/benchmark_training.py [--iterations 10000] [--rounds 7]

DQN on CartPole at PureJaxRL's settings: 10 environments, one update of batch 128 per 10
environment steps, network 120-84, Adam 2.5e-4, buffer 10k, target copied every 500
steps. The floor is one update on a fixed batch plus ten environment steps, each in a
scan of its own, on one device. Sides alternate; the table shows medians.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import config as configs
from rl_grads.replay import buffer
from rl_grads.training import devices, learning

MEMBERS = (1, 4, 8)


def benchmark_config() -> Any:
    """PureJaxRL's DQN on CartPole, 500k steps."""
    from rl_grads.training.schema import Config

    changes = {
        "agent.target.period": 50,
        "agent.behaviour_policy.epsilon": 1.0,
        "agent.behaviour_policy.epsilon_final": 0.05,
        "agent.behaviour_policy.epsilon_fraction": 0.25,
        "network.hidden": (120, 84),
        "optimizer.learning_rate": 2.5e-4,
        "replay.capacity": 10_000,
        "training.total_steps": 500_000,
        "training.num_envs": 10,
        "training.batch_size": 128,
        "training.warmup_steps": 10_000,
    }
    return configs.canonical(configs.replace(Config(), changes))


class Side(NamedTuple):
    """One of the things timed: a name and a call that runs so many iterations."""

    name: str
    run: Callable[[], Any]


def training_side(members: int, iterations: int) -> Side:
    """The project's own iteration for a population."""
    from rl_grads.training import run
    from rl_grads.training.engine import Given
    from rl_grads.training.population import population

    population_ = population(benchmark_config(), seeds=range(members))
    the = run.plan_for(Given(None, None), population_)
    state = [run.start(the)]

    def advance() -> Any:
        stop = run.Stop(state[0].iteration + iterations, False, False)
        state[0], row = run.advance(the, state[0], stop)
        return row

    return Side(f"{members} members", advance)


def update_side(iterations: int) -> Side:
    """One update on a fixed batch, in a scan."""
    from rl_grads.training import engine, loop

    config = benchmark_config()
    configs.as_pytree()
    given = engine.Given(None, None)
    parts = engine.parts(given, config)
    member = jax.jit(lambda key: loop.init(parts, key))(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 128)
    obs = jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)
    flags = jnp.zeros(128, bool)
    batch = buffer.Experience(
        obs, jnp.zeros(128, jnp.int32), jnp.ones(128), obs, flags, flags, jnp.ones(128)
    )

    @jax.jit
    def program(config: Any, agent: Any, batch: Any) -> Any:
        parts = engine.parts(given, config)

        def step(agent: Any, _: None) -> Any:
            transitions = learning.transition(batch, config)
            agent, report = parts.agent.update(agent, transitions, None, config)
            return agent, report.metrics["gradient/norm"]

        return jax.lax.scan(step, agent, None, iterations)

    return Side("update", functools.partial(program, config, member.agent, batch))


def environment_side(iterations: int) -> Side:
    """Ten environment steps with random actions, in a scan."""
    from rl_grads.envs.make import make

    environment = make(benchmark_config().env)
    keys = jax.random.split(jax.random.key(0), 10)
    state, _ = jax.vmap(environment.reset)(keys)

    @jax.jit
    def program(state: Any, key: jax.Array) -> Any:
        def step(carry: Any, _: None) -> Any:
            state, key = carry
            key, key_act, key_step = jax.random.split(key, 3)
            actions = jax.random.randint(key_act, (10,), 0, 2)
            keys = jax.random.split(key_step, 10)
            state, out = jax.vmap(environment.step)(keys, state, actions)
            return (state, key), out.reward.sum()

        return jax.lax.scan(step, (state, key), None, iterations)

    return Side("10 environment steps", lambda: program(state, jax.random.key(1)))


def measure(sides: list[Side], iterations: int, rounds: int) -> dict[str, float]:
    """Median microseconds per iteration of every side; they take turns."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(rounds + 1):
        for side in sides:
            begun = time.perf_counter()
            jax.block_until_ready(side.run())
            if turn:  # The first turn compiles.
                times[side.name].append(time.perf_counter() - begun)
    return {n: 1e6 * statistics.median(t) / iterations for n, t in times.items()}


def table(times: dict[str, float]) -> str:
    """Markdown: microseconds per member and iteration, and the ratio to the floor."""
    floor = times["update"] + times["10 environment steps"]
    rows = [("side", "us per member and iteration", "ratio to the floor"), ("---",) * 3]
    rows += [
        (name, f"{times[name]:.1f}", "") for name in ("update", "10 environment steps")
    ]
    rows.append(("floor", f"{floor:.1f}", "1.00"))
    for count in MEMBERS:
        each = times[f"{count} members"] / count
        rows.append((f"{count} members", f"{each:.1f}", f"{each / floor:.2f}"))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    devices.use_cores(devices.available_cores())
    sides = [training_side(count, arguments.iterations) for count in MEMBERS]
    sides += [update_side(arguments.iterations), environment_side(arguments.iterations)]
    times = measure(sides, arguments.iterations, arguments.rounds)
    print(f"{devices.describe()}, jax {jax.__version__}\n")
    print(table(times))


if __name__ == "__main__":
    main()
