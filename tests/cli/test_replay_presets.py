"""Every file of `configs/replay/` composes to what its paper says, and trains."""

import json

import pytest

from rl_grads.cli import compose
from rl_grads.replay.schema import Importance, Replay

pytestmark = pytest.mark.slow

PRESETS = {
    "per": Replay(
        priority="td_error",
        exponent=0.6,
        importance=Importance(exponent=0.4, exponent_final=1.0, normalise="max"),
    ),
    "rank": Replay(
        priority="rank",
        exponent=0.7,
        importance=Importance(exponent=0.5, exponent_final=1.0, normalise="max"),
    ),
    "gradient_norm": Replay(priority="gradient_norm"),
    "gradient_norm_last_layer": Replay(priority="gradient_norm_last_layer"),
    "loss_adjusted": Replay(
        priority="loss_adjusted",
        exponent=0.4,
        importance=Importance(exponent=0.0, normalise="none"),
    ),
    "large_batch": Replay(
        priority="large_batch",
        large_batch=4,
        importance=Importance(normalise="none"),
    ),
}


SLOW = ("rank", "gradient_norm_last_layer", "loss_adjusted")


def test_the_files_are_these():
    folder = compose.config_directory() / "replay"
    assert {path.stem for path in folder.glob("*.yaml")} == {*PRESETS, "none"}


@pytest.mark.parametrize("name", PRESETS)
def test_composes(name):
    compose.store_schemas()
    overrides = [f"replay={name}"]
    with compose.composer(compose.read(overrides)) as composed:
        made = compose.to_config(compose.without_hydra(composed(overrides, False)))
    assert made.replay == PRESETS[name]


@pytest.mark.parametrize(
    "name",
    [
        "per",
        "gradient_norm",
        "large_batch",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_trains(train, home, name):
    status, _, err = train("experiment=blind_cliffwalk", f"replay={name}")
    assert status == 0, err
    (run,) = (home / "runs" / "blind_cliffwalk").iterdir()
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["training/diverged"] == 0
    assert last["gradient/norm"] is not None
