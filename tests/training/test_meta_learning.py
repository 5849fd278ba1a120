"""Learning numbers of the config while training: `meta.learn`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear, NStepTD, Prediction, TDLambda
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.meta import learned, online
from rl_grads.meta.estimate import Task
from rl_grads.meta.inner import Problem
from rl_grads.meta.schema import Meta
from rl_grads.replay.schema import Replay
from rl_grads.training import collecting, engine, learning, loop, meta_learning, session
from rl_grads.training.checks.door import check
from rl_grads.training.engine import Given

pytestmark = pytest.mark.slow

RATE = "optimizer.learning_rate"
SETTINGS = {
    "env.id": "chain/random_walk",
    "training.num_envs": 2,
    "training.total_steps": 400,
    "training.batch_size": 4,
    "training.warmup_steps": 20,
    "training.updates_per_iteration": 4,
    "evaluation.interval": None,
    "tracking.interval": 100,
    "tracking.progress": False,
    "tracking.trackio": False,
    "tracking.runs": "none",
}


def walk(changes=None, **meta):
    """Prediction on the five-state walk, by replay; the outer optimizer is SGD."""
    config = rg.Config(
        agent=Prediction(discount=0.9),
        network=Linear(),
        optimizer=SGD(learning_rate=0.1),
        replay=Replay(capacity=100),
        meta=Meta(**{"optimizer": SGD(learning_rate=0.0)} | meta),
    )
    return rg.replace(config, SETTINGS | (changes or {}))


ONLINE = {"replay": None, "training.updates_per_iteration": 1}


def train(config, seeds=(0, 1)):
    return rg.train(members=rg.population(config, seeds))


# --------------------------------------------------------------------- the inner loop


@pytest.mark.parametrize(
    ("changes", "meta"),
    [
        ({}, {"steps": 2}),
        ({"replay.priority": "td_error"}, {"steps": 1}),
        (ONLINE, {"estimator": "forward", "trace_decay": 0.9}),
        pytest.param(ONLINE, {}, marks=pytest.mark.slow),
        *(
            pytest.param({}, {"estimator": name} | more, marks=pytest.mark.slow)
            for name, more in (
                ("forward", {"steps": 2}),
                ("truncated", {"steps": 4, "window": 2}),
                ("bootstrapped", {"target_steps": 1}),
                ("persistent_evolution", {"steps": 4, "particles": 2}),
            )
        ),
    ],
)
def test_the_inner_updates_are_those_of_ordinary_training(changes, meta):
    """With an outer step size of zero nothing but the metrics differs."""
    plain = train(walk(changes))
    found = train(walk(changes, learn=("agent.discount", RATE), **meta))
    for a, b in zip(plain.params, found.params, strict=True):
        np.testing.assert_allclose(a["w"], b["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.metrics[f"learned/{RATE}"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found.metrics["learned/agent.discount"], 0.9, rtol=1e-6)
    assert np.all(found.metrics["meta/gradient_norm"][:, 1:] > 0)
    assert not np.any(found.metrics["meta/skipped"])
    same = ("loss/td_error_abs", "gradient/norm", "training/return")
    for name in same:
        np.testing.assert_allclose(
            found.metrics[name], plain.metrics[name], rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_members_learn_their_own_numbers():
    outer = SGD(learning_rate=1.0)
    changes = {"training.total_steps": 200}
    config = walk(changes, learn=("agent.discount", RATE), steps=4, optimizer=outer)
    together, alone = train(config, (3, 5)), train(config, (5,))
    rates = together.metrics[f"learned/{RATE}"]
    assert rates.shape == (2, 2)
    assert np.all(rates[:, -1] != rates[:, 0])
    assert rates[0, -1] != rates[1, -1]
    np.testing.assert_allclose(rates[1], alone.metrics[f"learned/{RATE}"][0], 1e-5)
    discounts = together.metrics["learned/agent.discount"]
    assert np.all((discounts > 0) & (discounts < 1))


MANY = {"training.num_envs": 16, "training.total_steps": 16_000}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, ONLINE | MANY])
def test_a_step_size_far_too_small_grows(changes):
    config = walk(
        {"training.total_steps": 2000} | changes | {RATE: 1e-3},
        learn=(RATE,),
        optimizer=Adam(learning_rate=0.02),
        outer_discount=1.0,
    )
    rates = train(config).metrics[f"learned/{RATE}"]
    assert np.all(rates[:, -1] > 3e-3)


@pytest.mark.slow
def test_the_truth_meter_is_at_rest_for_the_truth_itself():
    changes = {"training.total_steps": 100}
    config = walk(changes, learn=(RATE,), steps=2, truth_meter=True)
    found = train(config, (0,)).metrics
    np.testing.assert_allclose(found["meta/cosine"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found["meta/bias"], 0.0, atol=1e-5)


@pytest.mark.slow
def test_a_member_that_diverges_says_when_and_the_others_go_on():
    config = walk({"training.total_steps": 100}, learn=("agent.discount",), steps=2)
    members = rg.population(config, (0,), {RATE: [0.1, 1e30]})
    found = rg.train(members=members)
    assert found.diverged_at[0] == -1
    assert found.diverged_at[1] > 0
    assert np.all(np.isfinite(found.metrics["learned/agent.discount"]))
    assert np.all(np.isfinite(found.params[0]["w"]))


# ----------------------------------------------------------------- numbers of a config


def test_a_learned_step_size_multiplies_its_schedule():
    config = walk(learn=(RATE,))
    config.optimizer.learning_rate_decay = 0.5
    real = learned.to_real(config, {RATE: 0.2})
    made = [learned.current(config, p, real) for p in (0.0, 0.5, 1.0)]
    rates = [float(m.optimizer.learning_rate) for m in made]
    assert rates == pytest.approx([0.2, 0.15, 0.1])
    given = learned.current(config, 1.0, None)
    assert float(given.optimizer.learning_rate) == pytest.approx(0.05)


def outcome(gradient, **meta):
    """One outer update along a given meta-gradient, from the number 0.5."""
    config = walk({RATE: 0.5}, learn=(RATE,), optimizer=SGD(learning_rate=0.1), **meta)
    problem = Problem(
        start=lambda eta, state: state,
        step=lambda eta, state, batch: (state, (None, jnp.bool_(True))),
        loss=lambda state, data: state,
    )
    problem = problem._replace(
        step=lambda eta, state, batch: (
            state + gradient * eta[RATE],
            (None, jnp.bool_(True)),
        )
    )
    state = online.init(config, jnp.zeros(()))
    assert state is not None
    task = Task({}, jnp.zeros(()), jnp.zeros((1, 1)), None)
    return state, online.update(config, state, problem, task)


def test_an_outer_update_moves_on_the_real_line():
    before, after = outcome(2.0)
    assert float(before.real[RATE]) == pytest.approx(np.log(0.5))
    moved = after.meta.real[RATE]
    assert float(moved) == pytest.approx(np.log(0.5) - 0.1 * 2.0)
    assert float(after.metrics["meta/gradient_norm"]) == 2.0
    values = online.metrics(walk(), after.meta.real)
    assert float(values[f"learned/{RATE}"]) == pytest.approx(0.5 * np.exp(-0.2))


def test_an_outer_update_that_is_not_finite_is_skipped():
    before, after = outcome(jnp.inf)
    assert float(after.meta.real[RATE]) == float(before.real[RATE])
    assert float(after.metrics["meta/skipped"]) == 1.0


def test_nothing_is_carried_where_nothing_is_learned():
    assert online.init(walk(), jnp.zeros(())) is None


@pytest.mark.slow
def test_the_outer_discount_is_held_fixed():
    """The outer loss of one value: its slope shows the discount it was taken at."""
    config = walk(learn=("agent.discount",), outer_discount=0.25)
    rg.config.as_pytree()
    parts = engine.parts(Given(None, None), config)
    member = jax.jit(lambda key: loop.init(parts, key))(jax.random.key(0))
    seen = []

    def transition(experience, config):
        seen.append(config.agent.discount)
        return learning.transition(experience, config)

    configure = functools.partial(learned.current, config, 0.0)
    program = meta_learning.Training(parts.agent, config, configure, transition)
    problem = meta_learning.make_problem(program)
    keys = collecting.iteration_keys(member.key, jnp.int32(0), config.training)
    experience = jax.tree.map(
        lambda x: x[0], collecting.collect(parts, member, keys)[1]
    )
    problem.loss(member.agent, meta_learning.Batch(experience))
    assert seen == [0.25]


# -------------------------------------------------------------------------- the door


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learn": ("agent.discont",)}, "did you mean 'agent.discount'?"),
        ({"learn": ("training.batch_size",)}, "expected a number; it is static"),
        ({"learn": ()}, "meta.learn=[]: expected at least one name"),
        ({"learn": ("initial_parameters",)}, "are learned over many tasks"),
        ({"learn": ("replay.exponent",)}, "what is drawn has no derivative"),
        ({"learn": ("meta.noise",)}, "expected a number outside meta"),
        ({"learn": ("gradient.update.max_norm",)}, "meta-gradient is exactly zero"),
        ({"learn": ("network.initial_value",)}, "meta-gradient is exactly zero"),
        ({"estimator": "reptile"}, "meta.estimator=reptile: expected one that can"),
        ({"estimator": "implicit"}, "meta.estimator=implicit: expected another"),
        ({"steps": 3}, "meta.steps=3: expected a divisor of training.updates_per_iter"),
        ({"steps": -1}, "meta.steps=-1: expected an integer in [1, 2147483647]"),
        ({"window": 0}, "meta.window=0: expected an integer in [1, 2147483647]"),
        ({"optimizer": Replay()}, "meta.optimizer=replay/buffer: expected one of"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    config = walk(**{"learn": ("agent.discount",)} | changes)
    with pytest.raises(ConfigError) as caught:
        check(rg.population(config, (0,))[0].config, Given(None, None))
    assert message in str(caught.value)


def test_an_edge_is_refused():
    config = walk({"agent.discount": 1.0}, learn=("agent.discount",))
    with pytest.raises(ConfigError, match=r"the nearest is 0\.999999"):
        check(config, Given(None, None))


@pytest.mark.parametrize(
    "changes",
    [{"replay.priority": "gradient_norm"}, {"gradient.per_example.max_norm": 1.0}],
)
def test_a_clip_inside_the_graph_wants_the_mean_gradient(changes):
    config = walk({"gradient.clip.max_abs": 0.5, **changes}, learn=(RATE,))
    with pytest.raises(
        ConfigError, match=r"gradient\.clip\.max_abs=0\.5: expected null"
    ):
        check(config, Given(None, None))


def test_a_further_batch_needs_a_memory():
    further = {"estimator": "bootstrapped", "target_steps": 1}
    config = walk(ONLINE, learn=("agent.discount",), **further)
    with pytest.raises(ConfigError, match="target_steps=1: expected 0 where replay is"):
        check(config, Given(None, None))


def test_what_fits_passes_the_door():
    check(walk(learn=("agent.discount", RATE), steps=2), Given(None, None))
    check(walk(ONLINE, learn=(RATE,)), Given(None, None))


@pytest.mark.parametrize("agent", [NStepTD(n_step=2), TDLambda()])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_the_door_shows_agents_in_order_of_time_whole_steps(agent, sizes):
    shape = {"training.num_envs": sizes[0], "training.num_steps": sizes[1]}
    agent = rg.replace(agent, {"discount": 0.9})
    config = walk(ONLINE | shape | {"agent": agent}, learn=("agent.discount",))
    check(config, Given(None, None))


# --------------------------------------------------------------------------- resuming


class Cut(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, ONLINE])
def test_a_resumed_run_goes_on_learning(tmp_path, monkeypatch, changes):
    config = walk(
        changes | {"checkpoint.interval": 200},
        learn=("agent.discount", RATE),
        estimator="forward",
        optimizer=Adam(learning_rate=0.05),
    )
    members = rg.population(config, (0, 1))
    whole = rg.train(members=members, run_dir=tmp_path / "whole")
    row = session.Files.row

    def failing(files, step, metrics):
        row(files, step, metrics)
        if step > 250:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(session.Files, "row", failing)
        with pytest.raises(Cut):
            rg.train(members=members, run_dir=tmp_path / "cut")
    again = rg.population(rg.replace(config, {"resume": str(tmp_path / "cut")}), (0, 1))
    found = rg.train(members=again, run_dir=tmp_path / "cut")
    for name in ("learned/agent.discount", f"learned/{RATE}", "meta/loss"):
        np.testing.assert_array_equal(found.metrics[name], whole.metrics[name])
