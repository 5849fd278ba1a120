"""Few-shot sinusoid regression: MAML, FOMAML and Reptile (Finn et al. 2017).

    python -m experiments.meta_sinusoid PICTURE [--updates 20000] [--seed 0]

Prints mean squared errors on 600 fresh tasks as a table, and draws them. About three
minutes on two cores.
"""

import argparse
import pathlib

import jax
import numpy as np

from rl_grads.cli import few_shot
from rl_grads.meta.few_shot import Budget
from rl_grads.studies import meta_sinusoid

UPDATES, SEED = 20_000, 0
LABEL = "mean squared error"


def measure(updates: int, seed: int) -> dict[str, np.ndarray]:
    """Errors on fresh tasks after 0 to 5 updates, `[tasks, 6]`, by initialisation."""
    budget = Budget(updates)
    test = jax.jit(meta_sinusoid.adapted_errors)
    starts = {"random": meta_sinusoid.random_params(seed)}
    for method in meta_sinusoid.METHODS:
        starts[method] = jax.jit(
            lambda seed, method=method: meta_sinusoid.learn(method, budget, seed)
        )(seed)
    return {name: np.asarray(test(params)) for name, params in starts.items()}


def main() -> None:
    """Measure, print the table and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    errors = measure(arguments.updates, arguments.seed)
    print(few_shot.table(errors, (0, 1, meta_sinusoid.TEST_UPDATES)))
    few_shot.draw(errors, LABEL, arguments.picture)


if __name__ == "__main__":
    main()
