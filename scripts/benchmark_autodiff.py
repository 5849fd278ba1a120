"""What the gradient toolbox costs: three tables of ratios, each from one process.

    python scripts/benchmark_autodiff.py [--rounds 30]

(a) Four ways to a product with the Hessian of a function of a 30x40 input. (b) K = 128
products with a Jacobian: a loop over one compiled product, and a loop inside a program,
against one batched program. (c) `clip_gradient` at each place of a Q-network with two
hidden layers of 256, against the same update without it, batch 256. Sides take turns; a
ratio is the median of the ratios round by round.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import autodiff
from rl_grads.training import devices

SHAPE = (30, 40)
PRODUCTS = 128
UPDATES = 20  # In one run.
BATCH = 256
OBSERVATION, ACTIONS = 8, 4


class Side(NamedTuple):
    """One of the things timed: a name and a call without arguments."""

    name: str
    run: Callable[[], Any]


def measure(sides: list[Side], rounds: int, calls: int = 1) -> dict[str, list[float]]:
    """Seconds per call of every side in every round; within a round they take turns."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for side in sides:
        jax.block_until_ready(side.run())  # Compiles.
    for turn in range(rounds):
        for side in sides if turn % 2 else reversed(sides):
            begun = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(side.run())
            times[side.name].append((time.perf_counter() - begun) / calls)
    return times


def table(title: str, times: dict[str, list[float]], reference: str) -> str:
    """Markdown: median microseconds, and the ratio to one side."""
    rows = [(title, "us", f"ratio to {reference}"), ("---",) * 3]
    for name, seconds in times.items():
        pairs = zip(seconds, times[reference], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append((name, f"{1e6 * statistics.median(seconds):.1f}", f"{ratio:.3f}"))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


# ------------------------------------------------------------------ products with H


def scalar(x: jax.Array) -> jax.Array:
    """A scalar of a matrix, element by element and across."""
    return jnp.sum(jnp.tanh(x @ x.T) ** 2)


def hessian_sides() -> list[Side]:
    """The three orders without a matrix, and the dense Hessian."""
    keys = jax.random.split(jax.random.key(0))
    x, v = (0.1 * jax.random.normal(key, SHAPE) for key in keys)

    def product(order: str) -> Side:
        compiled = jax.jit(lambda x, v: autodiff.hvp(scalar, x, v, order))
        return Side(order, lambda: compiled(x, v))

    dense = jax.jit(lambda x, v: jnp.tensordot(autodiff.hessian(scalar)(x), v, 2))
    orders = [product(order) for order in ("fwd_rev", "rev_fwd", "rev_rev")]
    return [*orders, Side("dense", lambda: dense(x, v))]


# ------------------------------------------------------------------ many products


def vector_map() -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """A tanh layer from 40 to 30 numbers, and a point."""
    matrix = jax.random.normal(jax.random.key(0), SHAPE)
    return lambda x: jnp.tanh(matrix @ x), jnp.ones(SHAPE[1])


def product_sides(kind: str) -> list[Side]:
    """K products batched, in a loop over a compiled one, and in a compiled loop."""
    fun, x = vector_map()
    forward = kind == "jvps"
    batched = autodiff.jvps if forward else autodiff.vjps
    size = SHAPE[1] if forward else SHAPE[0]
    many = jax.random.normal(jax.random.key(1), (PRODUCTS, size))
    together = jax.jit(lambda x, many: batched(fun, x, many))

    def single(x: jax.Array, v: jax.Array) -> jax.Array:
        return batched(fun, x, v[None])[0]

    alone, vectors = jax.jit(single), list(many)
    inside = jax.jit(lambda x, many: jax.lax.map(lambda v: single(x, v), many))
    return [
        Side(f"{kind}: batched", lambda: together(x, many)),
        Side(f"{kind}: loop", lambda: [alone(x, v) for v in vectors]),
        Side(f"{kind}: loop in one program", lambda: inside(x, many)),
    ]


# ------------------------------------------------------------------ the clip's cost


def update_sides() -> list[Side]:
    """Updates of a Q-network: without a clip and with each clip at each site."""
    from rl_grads.gradients.schema import GraphClip

    sites = ("output", "torso", "every_layer")
    limits = ({"max_abs": 1.0}, {"max_norm": 1.0})
    clips = {
        f"{next(iter(limit))} at {site}": GraphClip(**limit, site=site)
        for limit in limits
        for site in sites
    }
    every = {"no clip": GraphClip(), **clips}
    return [_update_side(name, clip) for name, clip in every.items()]


def _update_side(name: str, clip: Any) -> Side:
    """Updates on a fixed batch, in a scan."""
    from rl_grads import config as configs
    from rl_grads.agents import q_learning
    from rl_grads.agents.networks import make
    from rl_grads.training.schema import Config

    changes = {"network.hidden": (256, 256), "gradient.clip": clip}
    config = configs.canonical(configs.replace(Config(), changes))
    agent = q_learning(make(config, ACTIONS))
    state = agent.init(jax.random.key(0), jnp.ones(OBSERVATION), config)
    batch = _batch()

    @jax.jit
    def program(state: Any, batch: Any, config: Any) -> Any:
        def step(state: Any, _: None) -> Any:
            return agent.update(state, batch, None, config)[0], None

        return jax.lax.scan(step, state, length=UPDATES)[0]

    return Side(name, lambda: program(state, batch, config))


def _batch() -> Any:
    from rl_grads.td.transition import Transition

    keys = jax.random.split(jax.random.key(1), 4)
    s_tm1, s_t = (jax.random.normal(key, (BATCH, OBSERVATION)) for key in keys[:2])
    flags = jnp.zeros(BATCH, bool)
    return Transition(
        s_tm1=s_tm1,
        a_tm1=jax.random.randint(keys[2], (BATCH,), 0, ACTIONS),
        r_t=jax.random.normal(keys[3], (BATCH,)),
        s_t=s_t,
        terminated=flags,
        truncated=flags,
        discount_t=jnp.full(BATCH, 0.99),
        rho=jnp.ones(BATCH),
    )


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    devices.use_cores(1)
    print(f"{devices.describe()}, jax {jax.__version__}\n")
    times = measure(hessian_sides(), rounds, calls=20)
    print(table("Hessian product, 30x40", times, "fwd_rev"), end="\n\n")
    for kind in ("jvps", "vjps"):
        times = measure(product_sides(kind), rounds, calls=20)
        print(table(f"{PRODUCTS} products", times, f"{kind}: batched"), end="\n\n")
    times = measure(update_sides(), rounds)
    print(table(f"{UPDATES} updates, 2x256, batch {BATCH}", times, "no clip"))


if __name__ == "__main__":
    main()
