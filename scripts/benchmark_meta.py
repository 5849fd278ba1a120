"""Memory and time of a meta-gradient through many TD updates, side by side.

    python scripts/benchmark_meta.py [--updates 100 1000] [--rounds 5] [--only NAME ...]

The derivative of an outer loss in discount, learning rate and initial parameters
through T semi-gradient TD updates of an MLP 4x256 on batches of 1024. Temporary memory
is what the compiler plans (`memory_analysis`); times are medians, sides alternate.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import rl_grads as rg
from rl_grads.agents.networks import mlp
from rl_grads.agents.schema import MLP, Prediction
from rl_grads.autodiff.mixed_mode import mixed_mode_grad
from rl_grads.gradients.estimators import mean_gradient
from rl_grads.gradients.schema import SGD
from rl_grads.meta import estimators
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

OBSERVATION, BATCH, HIDDEN = 8, 1024, (256, 256, 256, 256)
LEARN = ("agent.discount", "optimizer.learning_rate", "initial_parameters")
PLAIN = "plain reverse mode"


class Side(NamedTuple):
    """A way to the same derivative: how gradients are taken, and what is kept."""

    name: str
    grad: Callable[..., Any]
    checkpoint: str | None


SIDES = (
    Side(PLAIN, jax.grad, None),
    Side("plain, each step checkpointed", jax.grad, "step"),
    Side("mixed mode", mixed_mode_grad, None),
    Side("mixed mode, each step checkpointed", mixed_mode_grad, "step"),
    Side("mixed mode, sqrt", mixed_mode_grad, "sqrt"),
)


def transitions(key: jax.Array, *lead: int) -> Transition:
    """Random transitions with these leading axes."""
    keys = jax.random.split(key, 3)
    flags = jnp.zeros(lead, bool)
    return Transition(
        s_tm1=jax.random.normal(keys[0], (*lead, OBSERVATION)),
        a_tm1=jnp.zeros(lead, jnp.int32),
        r_t=jax.random.normal(keys[1], lead),
        s_t=jax.random.normal(keys[2], (*lead, OBSERVATION)),
        terminated=flags,
        truncated=flags,
        discount_t=jnp.ones(lead),
        rho=jnp.ones(lead),
    )


class Program(NamedTuple):
    """A compiled side, and the arguments that it is called with."""

    name: str
    compiled: Any
    arguments: tuple

    def temporary(self) -> int:
        """Bytes beside arguments and results."""
        return self.compiled.memory_analysis().temp_size_in_bytes

    def seconds(self) -> float:
        """One call."""
        begun = time.perf_counter()
        jax.block_until_ready(self.compiled(*self.arguments))
        return time.perf_counter() - begun


def program(side: Side, updates: int) -> Program:
    """Compile a side for T updates."""
    network = mlp(MLP(hidden=HIDDEN, activation="tanh"), 1)
    agent = rg.agents.prediction(network=network, estimator=mean_gradient(side.grad))
    config = Config(agent=Prediction(discount=0.9), optimizer=SGD(learning_rate=0.01))
    state = agent.init(jax.random.key(0), jnp.ones(OBSERVATION), config)

    def outer_loss(params: Any, data: Transition) -> jax.Array:
        values = jax.vmap(agent.value, (None, 0))(params, data.s_tm1)
        return 0.5 * jnp.mean(jnp.square(values - data.r_t))

    compute = rg.meta.gradient(
        agent.update,
        outer_loss,
        learn=LEARN,
        steps=updates,
        estimator=estimators.full(side.checkpoint),
    )
    batches = transitions(jax.random.key(1), updates, BATCH)
    arguments = (config, state, batches, transitions(jax.random.key(2), BATCH))

    def derivative(*arguments: Any) -> Any:
        return compute(*arguments).gradient

    return Program(
        f"{side.name}, T={updates}",
        jax.jit(derivative).lower(*arguments).compile(),
        arguments,
    )


def measure(programs: Sequence[Program], rounds: int) -> dict[str, float]:
    """Median seconds of every program; they take turns."""
    times: dict[str, list[float]] = {p.name: [] for p in programs}
    for turn in range(rounds + 1):
        for each in programs:
            seconds = each.seconds()
            if turn:
                times[each.name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def table(programs: Sequence[Program], times: dict[str, float]) -> str:
    """Markdown: memory and time of each, and against the first."""
    rows = [("side", "temporary MB", "of plain", "seconds", "of plain"), ("---",) * 5]
    first = programs[0]
    for each in programs:
        size, seconds = each.temporary(), times.get(each.name)
        rows.append(
            (
                each.name,
                f"{size / 1e6:.1f}",
                f"1/{first.temporary() / size:.1f}",
                "" if seconds is None else f"{seconds:.2f}",
                "" if seconds is None else f"{seconds / times[first.name]:.2f}",
            )
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[side.name for side in SIDES])
    arguments = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    for updates in arguments.updates:
        chosen = [s for s in SIDES if s.name in arguments.only]
        programs = [program(side, updates) for side in chosen]
        fits = [p for p in programs if p.temporary() < 8e9]
        print(table(programs, measure(fits, arguments.rounds)), end="\n\n")


if __name__ == "__main__":
    main()
