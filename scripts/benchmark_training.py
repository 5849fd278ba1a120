"""Microseconds per training iteration against a floor measured in the same process.

    python scripts/benchmark_training.py [--members 1 4 8] [--rounds 7]

DQN on CartPole at PureJaxRL's settings: 10 environments, one update of batch 128 per 10
environment steps, network 120-84, Adam 2.5e-4, buffer 10k, target copied every 500
steps. The floor is the least that such an iteration can be: a plain optax update on a
batch and towards a target that change, and ten environment steps, each in a scan of its
own on one device; nothing of this project is in it. (Together in one scan they take
15 % longer: neither waits for the other.) Sides alternate; the table shows medians.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads import config as configs
from rl_grads.training import devices


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


UPDATE, ENVIRONMENT = "update", "10 environment steps"


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
    plan = run.plan_for(Given(None, None), population_)
    state = [run.start(plan)]

    def advance() -> Any:
        stop = run.Stop(state[0].iteration + iterations, False, False)
        state[0], row = run.advance(plan, state[0], stop)
        return row

    return Side(f"{members} members", advance)


def _network(params: Any, obs: jax.Array) -> jax.Array:
    for weight, bias in params[:-1]:
        obs = jax.nn.relu(obs @ weight + bias)
    weight, bias = params[-1]
    return obs @ weight + bias


def _weights(key: jax.Array) -> Any:
    """A network 4-120-84-2."""
    widths = (4, 120, 84, 2)
    keys = jax.random.split(key, 3)
    return [
        (jax.random.normal(k, (n, m)) / n**0.5, jnp.zeros(m))
        for k, n, m in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def update_side(iterations: int) -> Side:
    """A plain update an iteration; batches lie ready, and each takes another one."""
    adam = optax.adam(2.5e-4)
    batches = jax.random.normal(jax.random.key(0), (64, 128, 4))
    rewards = jax.random.normal(jax.random.key(1), (64, 128))

    def loss(params: Any, target: Any, obs: jax.Array, reward: jax.Array) -> jax.Array:
        best = jnp.max(_network(target, obs[:, ::-1]), 1)
        error = reward + 0.99 * best - _network(params, obs)[:, 0]
        return 0.5 * jnp.mean(error**2)

    def step(carry: Any, at: jax.Array) -> Any:
        params, target, state = carry
        given = (target, batches[at % 64], rewards[at % 64])
        value, gradient = jax.value_and_grad(loss)(params, *given)
        steps, state = adam.update(gradient, state)
        params = optax.apply_updates(params, steps)
        target = jax.lax.cond(at % 50 == 0, lambda: params, lambda: target)
        return (params, target, state), value

    params = _weights(jax.random.key(2))
    start = (params, params, adam.init(params))
    scan = jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(iterations)))
    return Side(UPDATE, functools.partial(scan, start))


def environment_side(iterations: int) -> Side:
    """Ten environment steps an iteration, with random actions."""
    from rl_grads.envs import make
    from rl_grads.envs.schema import Env

    make.make(Env("gymnax/CartPole-v1"))  # Loads gymnax without what it plots with.
    import gymnax

    environment, settings = gymnax.make("CartPole-v1")

    def step(state: Any, at: jax.Array) -> Any:
        key_act, key_step = jax.random.split(jax.random.fold_in(jax.random.key(0), at))
        action = jax.random.randint(key_act, (10,), 0, 2)
        keys = jax.random.split(key_step, 10)
        stepped = jax.vmap(environment.step, (0, 0, 0, None))
        obs, state, *_ = stepped(keys, state, action, settings)
        return state, obs.sum()

    keys = jax.random.split(jax.random.key(1), 10)
    _, state = jax.vmap(environment.reset, (0, None))(keys, settings)
    scan = jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(iterations)))
    return Side(ENVIRONMENT, functools.partial(scan, state))


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


def table(times: dict[str, float], members: Sequence[int]) -> str:
    """Markdown: microseconds per member and iteration, and the ratio to the floor."""
    floor = times[UPDATE] + times[ENVIRONMENT]
    rows = [("side", "us per member and iteration", "ratio to the floor"), ("---",) * 3]
    rows += [(name, f"{times[name]:.1f}", "") for name in (UPDATE, ENVIRONMENT)]
    rows.append(("floor", f"{floor:.1f}", "1.00"))
    for count in members:
        each = times[f"{count} members"] / count
        rows.append((f"{count} members", f"{each:.1f}", f"{each / floor:.2f}"))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 8])
    arguments = parser.parse_args()
    devices.use_cores(devices.available_cores())
    sides = [training_side(n, arguments.iterations) for n in arguments.members]
    sides += [update_side(arguments.iterations), environment_side(arguments.iterations)]
    times = measure(sides, arguments.iterations, arguments.rounds)
    print(f"{devices.describe()}, jax {jax.__version__}\n")
    print(table(times, arguments.members))


if __name__ == "__main__":
    main()
