"""The parts on `docs/extending.md` train, each with its numbers."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import rl_grads as rg
from rl_grads import register
from rl_grads.config import ConfigError

PAGE = Path(__file__).parents[1] / "docs/extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
# What each part is chosen by, and one of its numbers with another value.
CHOICES = {
    "loss": ({"agent.loss": "pseudo_huber"}, {"own.pseudo_huber.width": 0.1}),
    "td_gradient": ({"agent.td_gradient": "pulled"}, {"own.pulled.strength": 0.9}),
    "estimator": ({"gradient.estimator": "noisy"}, {"own.noisy.scale": 0.5}),
    "clip": ({"gradient.update.clip": "halves"}, {"own.halves.factor": 0.01}),
    "priority": ({"replay.priority": "blend"}, {"own.blend.floor": 9.0}),
    "sampler": ({"replay.sampler": "recent"}, {"own.recent.power": 50.0}),
    "env": ({"env.id": "levers"}, {"env.params": {"pay": 3.0}}),
}


@pytest.fixture
def page(as_registered):
    """Everything on the page, registered, and the names that it binds."""
    bound: dict = {}
    for block in BLOCKS:
        exec(block, bound)
    return bound


def small(changes):
    """Two members of forty-eight steps."""
    settings = {
        "training.total_steps": 48,
        "training.num_envs": 2,
        "training.batch_size": 8,
        "training.warmup_steps": 16,
        "replay.capacity": 64,
        "evaluation.episodes": 2,
        "evaluation.interval": 24,
        "evaluation.max_steps": 20,
        "tracking.interval": 24,
        "tracking.progress": False,
        "tracking.trackio": False,
        "tracking.runs": "none",
    }
    return rg.replace(rg.Config(), settings | {"network.hidden": (8,)} | changes)


def trained(changes, **arguments):
    return rg.train(members=rg.population(small(changes), range(2)), **arguments)


def weights(result):
    return np.concatenate(
        [np.ravel(x) for params in result.params for x in jax.tree.leaves(params)]
    )


@pytest.mark.parametrize("kind", CHOICES)
def test_a_part_trains_and_its_number_counts(page, quick_compiler, kind):
    choice, number = CHOICES[kind]
    plain, chosen, moved = (trained(c) for c in ({}, choice, choice | number))
    for result in (chosen, moved):
        assert np.isfinite(weights(result)).all()
    if kind != "env":  # Its observations are others.
        assert (weights(plain) != weights(chosen)).any()
    assert (weights(chosen) != weights(moved)).any()


def test_numbers_of_a_part_are_swept_in_one_program(page, quick_compiler):
    config = small({"agent.loss": "pseudo_huber"})
    sweep = {"own.pseudo_huber.width": [0.1, 10.0]}
    members = rg.population(config, range(1), sweep)
    assert len({rg.training.population.population_key(m.config) for m in members}) == 1
    low, high = rg.train(members=members).params
    assert any(
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(high), strict=True)
    )


def test_a_number_of_a_part_is_learned(page, quick_compiler):
    learns = {
        "agent.loss": "pseudo_huber",
        "meta.learn": ("own.pseudo_huber.width",),
        "training.updates_per_iteration": 2,
        "meta.steps": 2,
    }
    result = trained(learns)
    found = result.metrics["learned/own.pseudo_huber.width"]
    assert np.isfinite(found).all()
    assert (found[:, -1] != 1.0).any()


@pytest.mark.parametrize("name", ["blend", "recent"])
def test_a_number_that_only_draws_cannot_be_learned(page, name):
    choice = {"blend": "priority", "recent": "sampler"}[name]
    path = f"own.{name}.{'floor' if name == 'blend' else 'power'}"
    with pytest.raises(ConfigError, match=r"chooses what is replayed.*soft_weights"):
        trained({f"replay.{choice}": name, "meta.learn": (path,)})


def test_sections_of_optimizer_network_and_agent(page, quick_compiler):
    schemas = rg.config.SCHEMAS
    result = trained({"optimizer": schemas["optimizer/signs"](learning_rate=0.25)})
    assert np.isfinite(weights(result)).all()
    config = small({})
    config.network = schemas["network/table"](start=0.5)
    config.agent = schemas["agent/cautious"](caution=1.0)
    result = rg.train(members=rg.population(config, range(2)))
    assert result.params[0]["w"].shape == (2, 4)


def test_a_wrapper_and_a_diagnostic(page, quick_compiler):
    wrapped = {"env.id": "levers", "env.wrappers.own": ("shifted",)}
    result = trained(wrapped | {"diagnostics.own": ("sharpness",)})
    # Each episode is one step, and is paid 0 or 1, and 1 more.
    returns = result.metrics["training/return"]
    assert ((returns >= 1) & (returns <= 2)).all()
    assert np.isfinite(result.metrics["diagnostics/sharpness"]).all()


def test_a_trace(page, quick_compiler):
    from rl_grads.agents.schema import Linear, TDLambda

    config = rg.replace(small({}), {"env.id": "chain/random_walk", "replay": None})
    config.network, config.agent = Linear(), TDLambda(trace="halved", trace_decay=0.9)
    accumulating = rg.replace(config, {"agent.trace": "accumulating"})
    halved, plain = (
        rg.train(members=rg.population(c, range(2))) for c in (config, accumulating)
    )
    assert (weights(halved) != weights(plain)).any()


def test_a_tracker_knows_the_names_before_the_first_row(page, tmp_path, quick_compiler):
    own = {"tracking.own": ("counter",), "diagnostics.own": ("sharpness",)}
    result = trained(own, run_dir=tmp_path / "run")
    told = (tmp_path / "run/counter.txt").read_text()
    rows = len(result.steps) * 2
    assert told == f"{rows} rows of {len(result.metrics)} metrics"


def test_a_callback_sees_every_row(page, tmp_path, quick_compiler, capsys):
    rows = []

    def callback(step, metrics):
        page["watch"](step, metrics)
        rows.append((step, metrics["training/return"].shape))

    result = trained({}, callback=callback)
    assert [step for step, _ in rows] == result.steps.tolist()
    assert {shape for _, shape in rows} == {(2,)}
    assert len(capsys.readouterr().out.splitlines()) == len(rows)

    def fails(step, metrics):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        trained({}, callback=fails, run_dir=tmp_path / "run")
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 2


def test_a_sampler_takes_the_place_of_priorities(page):
    both = {"replay.sampler": "recent", "replay.priority": "td_error"}
    message = r"^replay.priority=td_error: expected uniform beside replay.sampler=rec"
    with pytest.raises(ConfigError, match=message):
        trained(both)


def test_two_parts_cannot_share_numbers(page):
    schema = rg.config.SCHEMAS["own/numbers"].__dataclass_fields__["blend"]
    with pytest.raises(ConfigError, match=r"own.blend has the numbers of a priority"):
        register.loss("blend", schema.default_factory)(lambda network: None)


def test_every_kind_has_its_place_on_the_page():
    text = PAGE.read_text()
    for kind in register.KINDS:
        assert f"rg.register.{kind}(" in text
