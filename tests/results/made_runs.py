"""Folders as training leaves them, made without training."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_grads.tracking import folder
from rl_grads.tracking.files import MetricsFile, make_rows

CONFIG = {
    "seed": 0,
    "seeds": 2,
    "agent": "q_learning",
    "agent.discount": 0.99,
    "env.id": "gymnax/CartPole-v1",
    "optimizer": "adam",
    "optimizer.learning_rate": 0.001,
    "network.hidden": [128, 128],
    "replay": None,
    "training.total_steps": 20,
    "tracking.interval": 10,
}

RETURNS = {"evaluation/return": [[1.0, 2.0], [3.0, 4.0]]}


def write_run(
    place: pathlib.Path,
    metrics: Mapping[str, Sequence[Sequence[float]]] | None = None,
    *,
    seeds: Sequence[int] = (0, 1),
    steps: Sequence[int] = (10, 20),
    status: str = "finished",
    run: Mapping[str, Any] | None = None,
    choices: Mapping[str, str] | None = None,
    **config: Any,
) -> pathlib.Path:
    """A point: of each metric its values `[time][members]`, nan where it has none.

    Keys of the config are written with `__` for the dot.
    """
    place.mkdir(parents=True)
    given = (
        {"evaluation/return": [[1.0, 2.0], [3.0, 4.0]]} if metrics is None else metrics
    )
    own = {key.replace("__", "."): value for key, value in config.items()}
    folder.write_config(place, CONFIG | own, list(seeds), choices or {})
    file = MetricsFile(place / "metrics.jsonl")
    for k, step in enumerate(steps):
        row = {name: np.array(values[k], float) for name, values in given.items()}
        file.log(make_rows(step, row, seeds))
    file.close()
    times = {"start": "2026-11-22T05:30:00+00:00", "end": "2026-11-22T05:31:30+00:00"}
    document = {"format": 1, **times, "status": status, **(run or {})}
    (place / "run.json").write_text(json.dumps(document))
    if status in ("finished", "diverged"):
        summary = {name: {"members": list(v[-1])} for name, v in given.items()}
        ended = {"status": status, "wall_s": 90.0, "seeds": list(seeds)}
        (place / "summary.json").write_text(json.dumps(summary | ended))
    return place
