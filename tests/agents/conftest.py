"""The check that every generalisation of TD(0) goes through."""

import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.gradients.schema import SGD

SETTINGS = {
    "env.id": "chain/random_walk",
    "training.total_steps": 120,
    "evaluation.interval": None,
    "tracking.interval": 120,
}


def trained(agent, changes):
    """Weights of two members after a short walk, `[2, 5]`."""
    base = rg.Config(
        agent=agent,
        network=Linear(initial_weights=(0.1, 0.9, 0.3, 0.7, 0.2)),
        optimizer=SGD(learning_rate=0.1),
        replay=None,
    )
    members = rg.population(rg.replace(base, SETTINGS | changes), range(2))
    return np.stack([p["w"] for p in rg.train(members=members).params])


@pytest.fixture
def check_is_td():
    """Asserts that an agent with discount .9 learns in training what TD(0) learns."""

    def check(agent, changes=None):
        changes = changes or {}
        expected = trained(Prediction(discount=0.9), changes)
        found = trained(agent, changes)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert np.abs(found[0] - found[1]).max() > 0.01

    return check
