"""A training run logs what its clips did, and nothing of clips that are not there."""

import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, NStepTD, TDLambda
from rl_grads.gradients.schema import SGD
from rl_grads.tracking.metrics import METRICS

pytestmark = pytest.mark.slow

ENV = "gymnax/CartPole-v1"
CLIPS = {
    "gradient.update.clip": "autoclip",
    "gradient.update.percentile": 50.0,
    "gradient.clip.max_abs": 0.5,
    "gradient.clip.site": "every_layer",
}


def clip_metrics(result):
    return {name: v for name, v in result.final().items() if name.startswith("clip/")}


def test_a_run_logs_the_receipts(tiny):
    sweep = {"gradient.update.percentile": [100.0, 20.0]}
    members = rg.population(tiny(CLIPS), seeds=[0], sweep=sweep)
    result = rg.train(env=ENV, members=members)
    found = clip_metrics(result)
    assert {m.name for m in METRICS if m.name.startswith("clip/")} >= set(found)
    assert len(found) == 8
    fraction, before, after, angle = (
        result.metrics[f"clip/update/{name}"]
        for name in ("fraction", "norm_before", "norm_after", "angle")
    )
    rows = np.isfinite(before[0])
    # At the percentile 100 nothing is clipped; at 20 most updates are.
    np.testing.assert_array_equal(fraction[0, rows], 0.0)
    np.testing.assert_array_equal(before[0, rows], after[0, rows])
    assert np.all(fraction[1, rows] > 0.3)
    assert np.all(after[1, rows] < before[1, rows])
    np.testing.assert_allclose(angle[:, rows], 0.0, atol=1e-3)
    np.testing.assert_allclose(
        before[:, rows], result.metrics["gradient/norm"][:, rows], rtol=1e-5
    )
    assert np.all(found["clip/graph/norm_after"] < found["clip/graph/norm_before"])
    assert np.all((found["clip/graph/angle"] > 0) & (found["clip/graph/fraction"] < 1))


@pytest.mark.parametrize("keys", [{}, {"gradient.clip.max_norm": 1.0}])
def test_only_clips_that_are_there_report(tiny, keys):
    result = rg.train(env=ENV, members=rg.population(tiny(keys)), total_steps=60)
    kinds = {name.split("/")[1] for name in clip_metrics(result)}
    assert kinds == ({"graph"} if keys else set())


@pytest.mark.parametrize("agent", [NStepTD(n_step=2), TDLambda()])
def test_agents_that_learn_in_order_report_too(agent):
    config = rg.Config(agent=agent, network=Linear(0.5), optimizer=SGD(), replay=None)
    settings = {
        "env.id": "chain/random_walk",
        "gradient.update.clip": "global_norm",
        "gradient.update.max_norm": 1e-3,
        "training.total_steps": 40,
        "evaluation.interval": None,
    }
    found = rg.train(members=rg.population(rg.replace(config, settings))).final()
    before, after = found["clip/update/norm_before"], found["clip/update/norm_after"]
    np.testing.assert_allclose(before, found["gradient/norm"], rtol=1e-5)
    assert np.all((after > 0) & (after <= 1.001e-3) & (after < before))
