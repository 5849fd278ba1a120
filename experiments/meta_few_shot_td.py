"""Few-shot TD prediction: learned starts for TD(0) on random chains.

    python -m experiments.meta_few_shot_td FOLDER [--updates 3000] [--seed 0]

Prints value errors on 200 fresh chains as tables, and draws them. A few minutes on two
cores.
"""

import argparse
import pathlib
from collections.abc import Mapping

import numpy as np

from rl_grads.cli import few_shot
from rl_grads.meta.few_shot import Budget
from rl_grads.studies import meta_few_shot_td

UPDATES, SEED = 3000, 0
LABEL = "squared value error [reward²]"


def labelled(found: Mapping[str, meta_few_shot_td.Result]) -> dict[str, np.ndarray]:
    """Errors `[tasks, updates + 1]` by the name of a start and its step size."""
    return {f"{k}, step {one.step_size:g}": one.errors for k, one in found.items()}


def main() -> None:
    """Measure, print the tables and write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    for name, learner in meta_few_shot_td.LEARNERS.items():
        found = meta_few_shot_td.measure(
            learner(), Budget(arguments.updates), arguments.seed
        )
        errors = labelled(found)
        print(f"{name}\n\n{few_shot.table(errors, (0, 1, meta_few_shot_td.UPDATES))}\n")
        gain = found["joint"].errors[:, -1] - found["learned"].errors[:, -1]
        print(f"joint minus learned, same chains: {few_shot.cell(gain)}\n", flush=True)
        picture = arguments.folder / f"meta_few_shot_td_{name.lower()}.png"
        few_shot.draw(errors, LABEL, picture)


if __name__ == "__main__":
    main()
