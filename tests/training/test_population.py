"""A population is its members: independent, equal to solo runs, compiled once."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import Linear
from rl_grads.config import ConfigError
from rl_grads.long import Long
from rl_grads.replay import buffer
from rl_grads.training import collecting, compilation, devices, population, run
from rl_grads.training.checks.door import check
from rl_grads.training.engine import Given

# Floats of a solo run and of a population are summed in another order.
TOLERANCE = 1e-6


def numbers(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def plan(config, seeds):
    return run.plan_for(Given(None, None), rg.population(config, seeds=seeds))


def whole(members):
    """Sums in two words as one number: what rounds differently moves between them."""
    return jax.tree.map(
        lambda node: node.high + node.low if isinstance(node, Long) else node,
        members,
        is_leaf=lambda node: isinstance(node, Long),
    )


def trained(config, seeds):
    """The whole state of the members after training, as arrays by path."""
    the = plan(config, seeds)
    snapshot = run.start(the)
    last = list(run.stops(config))[-1].iteration
    snapshot, _ = run.advance(the, snapshot, run.Stop(last, False, False))
    members = whole(run.without_padding(the, snapshot.members))
    leaves, _ = jax.tree_util.tree_flatten_with_path(members)
    return {jax.tree_util.keystr(path): numbers(leaf) for path, leaf in leaves}


# --------------------------------------------------------------- members and solo runs


@pytest.mark.parametrize(
    ("size", "optimised"),
    [
        (3, False),
        (20, False),  # Parts of five, one after another.
        *(pytest.param(n, True, marks=pytest.mark.slow) for n in (3, 8, 16, 32)),
    ],
)
def test_a_member_equals_its_solo_run_for_100_updates(tiny, size, optimised):
    jax.config.update("jax_disable_most_optimizations", not optimised)
    # Another structure, so that no other test has compiled it.
    config = tiny({"network.hidden": (16, 16)} if optimised else {})
    together = trained(config, range(size))
    updates = together.pop(".agent.updates")
    assert updates.tolist() == [100] * size
    for k in (0, 2):
        alone = trained(config, [k])
        for name, values in together.items():
            found, expected = values[k], alone[name][0]
            np.testing.assert_allclose(found, expected, TOLERANCE, TOLERANCE, name)


def test_a_member_is_bit_identical_at_its_place_whatever_its_neighbours_are(tiny):
    first = trained(tiny(), (4, 7, 5))
    again = trained(tiny(), (4, 7, 5))
    others = trained(tiny({"optimizer.learning_rate": 0.01}), (1, 7, 0))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name], name)
        np.testing.assert_array_equal(first[name][1], others[name][1], name)


def test_padding_changes_nothing_and_is_seen_nowhere(tiny, monkeypatch, tmp_path):
    assert jax.local_device_count() == 2
    members = rg.population(tiny({"checkpoint.interval": 120}), seeds=range(3))
    assert devices.layout(3) == devices.Layout(devices.layout(3).mesh, 3, 4)
    spread = rg.train(members=members, run_dir=tmp_path / "two")
    monkeypatch.setattr(devices, "device_limit", lambda config: 1)
    single = rg.train(members=members, run_dir=tmp_path / "one")
    assert len(spread.params) == len(spread.diverged_at) == 3
    for name, values in spread.metrics.items():
        assert values.shape == (3, 4)
        np.testing.assert_allclose(values, single.metrics[name], 1e-4, 0, name)
    pairs_of = zip(*map(jax.tree.leaves, (spread.params, single.params)), strict=True)
    for leaf, other in pairs_of:
        np.testing.assert_allclose(leaf, other, TOLERANCE, TOLERANCE)
    for folder in ("one", "two"):
        meta = (tmp_path / folder / "checkpoints/120/manifest.json").read_text()
        assert json.loads(meta)["arrays"]["agent.updates"] == "int32[3]"


# ------------------------------------------------------------------------ independence


def pairs(values):
    return itertools.combinations(range(len(values)), 2)


@pytest.fixture
def ten(tiny):
    """Ten members that act at random for 240 steps before they learn."""
    changes = {
        "agent.behaviour_policy.name": "uniform",
        "training.warmup_steps": 200,
        "training.updates_per_iteration": 3,
        "training.num_steps": 4,
    }
    return plan(tiny(changes), range(10))


def test_members_share_no_randomness(ten):
    start = run.start(ten).members
    weights = numbers(start.agent.params["params"]["Dense_0"]["kernel"]).reshape(10, -1)
    observations = numbers(run.fresh(ten).obs).reshape(10, -1)
    actions = numbers(start.memory.ring.ints)[:, :60, :, 0].reshape(10, -1)
    count = actions.shape[1]
    for a, b in pairs(range(10)):
        assert not np.any(weights[a] == weights[b])
        assert not np.any(observations[a] == observations[b])
        agreed = np.sum(actions[a] == actions[b])
        assert abs(agreed - count / 2) < 4.5 * np.sqrt(count / 4)


def test_no_two_draws_have_a_key_in_common(ten):
    start = run.without_padding(ten, run.fresh(ten))

    @jax.jit
    def keys(key, time):
        return collecting.iteration_keys(key, time, ten.config.training)

    times = jnp.arange(0, 40, 4)
    inside = jax.vmap(jax.vmap(keys, (None, 0)), (0, None))(start.key, times)
    assert inside.act.shape == (10, 10, 4, 2)
    assert inside.learn.shape == (10, 10, 3)
    used = [start.key, start.agent.key, *inside]
    rows = np.concatenate([numbers(k).reshape(-1, 2) for k in used])
    assert len(np.unique(rows, axis=0)) == len(rows) == 20 + 10 * 10 * (8 + 8 + 3)

    size = buffer.sizes(1000, 2, 4, None)
    draw = jax.vmap(lambda key: buffer.draw_uniform(key, size, 400, 500))
    slots = numbers(draw(inside.learn[:, 0, 0]))
    for a, b in pairs(slots):
        assert np.mean(slots[a] == slots[b]) < 0.02


def test_evaluation_has_other_starts_than_training(tiny):
    the = plan(tiny(), range(3))
    members = run.fresh(the)
    ends = [the.engine.evaluate(the.configs, members, t) for t in (0, 1)]
    lengths = np.array([numbers(e["evaluation/length"]) for e in ends])
    assert len(np.unique(lengths)) > 1


# -------------------------------------------------------------------------- compilation


def test_configs_that_differ_in_floats_compile_once(tiny):
    config = tiny({"agent.discount": 0.97})
    rg.train(members=rg.population(config, seeds=range(3)))
    before = compilation.count()
    sweep = {"optimizer.learning_rate": [1e-4, 1e-3, 1e-2]}
    rg.train(members=rg.population(config, seeds=[5], sweep=sweep))
    changes = {
        "agent.discount": 0.9,
        "agent.target.polyak": 0.5,
        "agent.behaviour_policy.epsilon": 0.3,
        "gradient.update.max_norm": 1.0,
    }
    other = rg.replace(config, changes)
    result = rg.train(members=rg.population(other, seeds=range(8, 11)))
    assert compilation.count() == before
    assert result.timing.compile_s == 0
    jax.jit(lambda x: x * before)(1.0)
    assert compilation.count() == before + 1


def test_old_states_are_given_up(tiny):
    the = plan(tiny(), range(3))
    start = run.start(the)
    run.advance(the, start, next(run.stops(the.config)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(start.members))


# ---------------------------------------------------------------------- making members


def test_seeds_vary_fastest():
    config = rg.Config(seed=3, seeds=2)
    members = rg.population(config, sweep={"agent.discount": [0.5, 1], "seeds": [2]})
    found = [(m.seed, m.config.agent.discount) for m in members]
    assert found == [(3, 0.5), (4, 0.5), (3, 1.0), (4, 1.0)]
    assert all(type(discount) is float for _, discount in found)


@pytest.mark.parametrize("seeds", [[], [1, 2, 1], range(2**20 + 1)])
def test_seeds_are_different_and_not_too_many(seeds):
    expected = r"^seeds=\[.{0,65}\]: expected 1 to 1048576 different integers$"
    with pytest.raises(ConfigError, match=expected):
        rg.population(rg.Config(), seeds=seeds)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**400])
def test_seeds_are_integers_of_32_bits(seed):
    with pytest.raises(
        ConfigError, match=r"^seeds=-?\d.*: expected integers in \[0, 42"
    ):
        rg.population(rg.Config(), seeds=[3, seed])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 10**12}, "seeds=1000000000000: expected an integer in [1, 1048576]"),
        ({"seed": 2**32}, "seed=4294967296: expected an integer in [0, 4294967295]"),
        (
            {"seed": 4294967290, "seeds": 200000},
            "seed=4294967290: expected at most 4294767296 where seeds=200000: "
            "seeds end at 2^32 - 1",
        ),
    ],
)
def test_seeds_of_a_config_are_refused_before_they_are_listed(settings, message):
    config = rg.replace(rg.Config(), settings)
    with pytest.raises(ConfigError) as caught:
        rg.population(config)
    assert str(caught.value) == message


def test_the_last_seed():
    members = rg.population(rg.Config(seed=2**32 - 2, seeds=2))
    assert [m.seed for m in members] == [4294967294, 4294967295]
    with pytest.raises(ConfigError, match="seed=4294967294: expected at most 42949672"):
        rg.population(rg.Config(seed=2**32 - 2, seeds=3))


BEYOND = [
    ("float32", 1e39),
    ("float32", 3.5e38),
    ("float32", 1e-50),
    ("float32", 1e-38),
    ("float64", 5e-324),
]


@pytest.mark.parametrize(("precision", "value"), BEYOND)
def test_numbers_that_the_precision_cannot_hold_are_refused(precision, value):
    config = rg.Config(precision=precision)
    sweep = {"optimizer.learning_rate": [0.1, value]}
    with pytest.raises(ConfigError) as caught:
        population.stack(rg.population(config, sweep=sweep))
    message = str(caught.value)
    assert message.startswith(f"optimizer.learning_rate={value!r}: expected 0 or a siz")
    assert message.endswith(f", which precision={precision} can hold")


@pytest.mark.parametrize(("precision", "value"), BEYOND[:-1])
def test_the_door_names_a_number_that_the_precision_cannot_hold(precision, value):
    table = {"+Dense_0": value}
    config = rg.replace(rg.Config(), {"optimizer.layer_factors": table})
    with pytest.raises(ConfigError, match=r"^optimizer\.layer_factors\.\+Dense_0="):
        check(config, Given(None, None))
    population.check_precision(rg.replace(config, {"precision": "float64"}))


@pytest.mark.parametrize("value", [0.0, 1.2e-38, 3.4e38])
def test_numbers_that_the_precision_holds(value):
    config = rg.replace(rg.Config(), {"optimizer.learning_rate": value})
    (number,) = population.stack(rg.population(config)).optimizer.learning_rate
    assert number == np.float32(value)


def test_a_swept_value_outside_its_domain_is_refused():
    with pytest.raises(ConfigError, match=r"agent.discount=1.5: expected a number in"):
        rg.population(rg.Config(), sweep={"agent.discount": [0.5, 1.5]})


def test_structure_splits_members_and_names_do_not():
    config = rg.Config(network=Linear())
    sweep = {
        "agent.loss": ["q_learning", "sarsa"],
        "tracking.interval": [10, 20],
        "agent.discount": [0.9, 1.0],
        "run.id": ["a", "b"],
    }
    members = rg.population(config, seeds=range(2), sweep=sweep)
    assert len(members) == 32
    groups = population.split(members)
    assert groups == [list(range(16)), list(range(16, 32))]


def test_off_is_another_structure():
    on = rg.Config()
    off = rg.replace(on, {"replay": None})
    assert population.population_key(on) != population.population_key(off)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_stacked_leaves_have_a_member_axis(precision):
    config = rg.Config(precision=precision)
    members = rg.population(config, range(2), {"optimizer.learning_rate": [0.1, 0.2]})
    stacked = population.stack(members)
    assert stacked.optimizer.learning_rate.dtype == precision
    expected = np.array([0.1, 0.1, 0.2, 0.2], precision)
    np.testing.assert_array_equal(stacked.optimizer.learning_rate, expected)
    assert stacked.training.batch_size == 64
    assert {np.shape(leaf) for leaf in jax.tree.leaves(stacked)} == {(4,)}


@pytest.mark.parametrize(
    ("members", "devices_used", "padded"),
    [(1, 1, 1), (2, 2, 2), (3, 2, 4), (4, 2, 4), (9, 2, 10)],
)
def test_members_are_spread_evenly(members, devices_used, padded):
    layout = devices.layout(members)
    assert (layout.mesh.size, layout.padded) == (devices_used, padded)
    put = devices.put(layout, {"x": np.arange(members) * 10})["x"]
    expected = [10 * min(k, members - 1) for k in range(padded)]
    assert np.asarray(put).tolist() == expected
    assert len(put.sharding.device_set) == devices_used
