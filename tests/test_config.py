"""Configs are pytrees: numbers are leaves, everything else is structure."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import register
from rl_grads.agents.schema import (
    MLP,
    BehaviourPolicy,
    Linear,
    Prediction,
    QLearning,
    Target,
)
from rl_grads.config import (
    SCHEMAS,
    ConfigError,
    Interval,
    anneal,
    as_pytree,
    at_least,
    between,
    canonical,
    check,
    config,
    describe,
    fields,
    get,
    group,
    is_config,
    leaf_paths,
    nearest,
    non_negative,
    number,
    one_of,
    positive,
    real,
    replace,
    schema_name,
    setting,
    unit,
    walk,
)
from rl_grads.envs.schema import Env, Wrappers
from rl_grads.gradients.schema import (
    SGD,
    Adam,
    Gradient,
    GraphClip,
    PerExampleClip,
    UpdateClip,
)
from rl_grads.replay.schema import Importance, Replay
from rl_grads.td.transition import Transition
from rl_grads.training import compilation
from rl_grads.training.schema import Config, Training


@config
class Inner:
    """A section."""

    rate: float = number(0.5, "a rate", positive)
    size: int = setting(3, "a size", at_least(1))


@config
class Outer:
    """A config with a field of every kind."""

    scale: float = number(1.0, "a scale", unit)
    offset: float | None = number(None, "an offset")
    weights: tuple[float, ...] | None = number(None, "weights", non_negative)
    table: dict[str, float] = number({}, "named numbers")
    name: str = setting("a", "a name", one_of("alpha", "beta", "a"))
    label: str | None = setting(None, "a label")
    flag: bool = setting(False, "a flag")
    widths: tuple[int, ...] = setting((8, 8), "widths", at_least(1))
    inner: Inner = group(Inner, "a section")
    maybe: Inner | None = group(Inner, "a section that may be absent")


as_pytree()


def structure(value: Any) -> Any:
    return jax.tree.structure(value)


def keystr_paths(value: Any) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(value)
    keystr = jax.tree_util.keystr
    return [keystr(path, simple=True, separator=".") for path, _ in leaves]


# --------------------------------------------------------------------------- pytree


def test_leaves_are_the_numbers_in_order_of_declaration():
    assert jax.tree.leaves(Outer(scale=0.25)) == [0.25, 0.5, 0.5]
    full = Outer(offset=7.0, weights=(1.0, 2.0), table={"b": 4.0, "a": 3.0})
    assert jax.tree.leaves(full) == [1.0, 7.0, 1.0, 2.0, 3.0, 4.0, 0.5, 0.5]


def test_key_paths_are_dotted_names():
    paths = keystr_paths(Config())
    assert "agent.discount" in paths
    assert "optimizer.learning_rate" in paths
    assert "replay.importance.exponent" in paths
    full = Outer(weights=(1.0, 2.0), table={"g": 4.0})
    assert keystr_paths(full) == [
        "scale",
        "weights.0",
        "weights.1",
        "table.g",
        "inner.rate",
        "maybe.rate",
    ]


@pytest.mark.parametrize(
    "value",
    [
        Config(),
        Config(replay=None),
        Outer(offset=1.0, weights=(1.0, 2.0), table={"g": 4.0}),
        Config(env=Env(params={"gravity": 5.0})),
    ],
)
def test_leaf_paths_are_those_of_jax(value):
    assert list(leaf_paths(value)) == keystr_paths(value)
    for path, leaf in zip(leaf_paths(value), jax.tree.leaves(value), strict=True):
        assert get(value, path) == leaf


@pytest.mark.parametrize(
    "change",
    [
        {"name": "beta"},
        {"label": "x"},
        {"flag": True},
        {"widths": (8,)},
        {"inner": Inner(size=4)},
        {"offset": 0.0},
        {"weights": (1.0,)},
        {"table": {"g": 1.0}},
        {"maybe": None},
    ],
)
def test_what_is_no_number_is_structure(change):
    assert structure(Outer(**change)) != structure(Outer())


def test_numbers_are_not_structure():
    changed = Outer(scale=0.1, inner=Inner(rate=9.0))
    assert structure(changed) == structure(Outer())


def test_a_list_has_the_structure_of_a_tuple():
    assert structure(Outer(widths=[8, 8])) == structure(Outer())


def test_round_trip():
    value = Outer(offset=1.0, weights=(1.0, 2.0), table={"g": 4.0}, label="x")
    leaves, tree = jax.tree.flatten(value)
    assert jax.tree.unflatten(tree, leaves) == value
    doubled = jax.tree.map(lambda x: 2 * x, value)
    assert doubled.inner == Inner(rate=1.0, size=3)
    assert (doubled.label, doubled.widths, doubled.flag) == ("x", (8, 8), False)


def test_jit_grad_and_vmap_see_a_config():
    def area(value: Outer) -> Any:
        assert value.inner.size == 3  # Static: an int while tracing.
        return value.scale**2 * value.inner.rate * value.inner.size

    value = Outer(scale=0.5)
    assert float(jax.jit(area)(value)) == 0.375
    slope = jax.grad(area)(value)
    assert isinstance(slope, Outer)
    assert float(slope.scale) == 1.5  # 2 * scale * rate * size
    assert float(slope.inner.rate) == 0.75  # scale**2 * size
    assert float(slope.maybe.rate) == 0.0
    stacked = jax.tree.map(lambda *x: jnp.stack(x), Outer(scale=0.5), Outer(scale=1.0))
    assert jax.vmap(area)(stacked).tolist() == [0.375, 1.5]


def test_jit_returns_a_config():
    out = jax.jit(lambda c: replace(c, {"inner.rate": c.scale}))(Outer())
    assert float(out.inner.rate) == 1.0
    assert out.name == "a"


def test_a_class_declared_after_jax_was_loaded_is_a_pytree_at_once():
    @config
    class Late:
        x: float = number(3.0, "x")

    assert jax.tree.leaves(Late()) == [3.0]


def test_configs_are_compared_by_value_and_are_not_hashable():
    assert Outer() == Outer()
    assert Outer() != Outer(scale=0.1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Outer())


def test_defaults_are_not_shared():
    first, second = Outer(), Outer()
    first.table["g"] = 1.0
    first.inner.rate = 9.0
    assert second == Outer()
    assert Outer().table == {}


def test_an_unknown_attribute_is_refused():
    with pytest.raises(AttributeError):
        Outer().scael = 1.0


# ------------------------------------------------------------- one program for numbers


def _compilations(call: Any, *configs: Any) -> int:
    before = compilation.count()
    for one in configs:
        jax.block_until_ready(call(one))
    return compilation.count() - before


def test_configs_that_differ_in_numbers_compile_once():
    program = jax.jit(lambda c: c.scale * c.inner.rate * c.inner.size)
    assert _compilations(program, Outer(), Outer(scale=0.1, inner=Inner(0.25))) == 1
    assert _compilations(program, Outer(inner=Inner(size=4))) == 1
    assert _compilations(program, Outer(offset=0.0)) == 1
    assert _compilations(program, Outer(offset=1.0), Outer(scale=0.3)) == 0


@pytest.mark.slow
def test_an_agent_update_compiles_once_for_all_numbers():
    first = _whole("q_learning", "mlp", "adam", clip="global_norm")
    second = jax.tree.map(lambda x: 0.9 * x, first)
    state, batch = jax.jit(_start)(first), _batch((3,))
    update = jax.jit(lambda c: _agent(c).update(state, batch, None, c)[0].params)
    assert _compilations(update, first, second) == 1
    other = replace(first, {"agent.target": Target(period=3)})
    assert structure(other) != structure(first)


# ------------------------------------------------------------------ paths and changes


def test_get_and_replace():
    value = Config()
    assert get(value, "agent.discount") == 0.99
    changed = replace(value, {"agent.discount": 0.5, "replay.importance.exponent": 0.1})
    assert changed.agent.discount == 0.5
    assert changed.replay.importance.exponent == 0.1
    assert value == Config()
    assert replace(changed, {"agent.discount": 0.99, "replay": Replay()}) == value


def test_replace_reaches_into_mappings_and_tuples():
    value = Outer(weights=(1.0, 2.0), table={"a": 1.0})
    changed = replace(value, {"weights.1": 5.0, "table.a": 3.0, "table.new": 4.0})
    assert changed.weights == (1.0, 5.0)
    assert changed.table == {"a": 3.0, "new": 4.0}
    assert value.table == {"a": 1.0}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("agent.discont", "agent.discont: no key 'discont'; did you mean 'discount'?"),
        ("agnet.discount", "agnet.discount: no key 'agnet'; did you mean 'agent'?"),
        ("seed.x", "seed.x: no key 'x'"),
        ("env.params.gravity", "env.params.gravity: no key 'gravity'"),
        ("network.hidden.2", "network.hidden.2: no key '2'"),
    ],
)
def test_an_unknown_path_names_the_nearest(path, message):
    with pytest.raises(ConfigError) as caught:
        get(Config(), path)
    assert str(caught.value) == message


def test_replace_refuses_an_unknown_path():
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        replace(Config(), {"optimizer.learning_rat": 1.0})


def test_walk_gives_every_field_sections_first():
    paths = [path for path, _, _ in walk(Outer(maybe=None))]
    assert paths == [
        "scale",
        "offset",
        "weights",
        "table",
        "name",
        "label",
        "flag",
        "widths",
        "inner",
        "inner.rate",
        "inner.size",
        "maybe",
    ]


def test_fields_tell_leaves_from_settings():
    kinds = {f.name: (f.is_leaf, f.is_group) for f in fields(Outer)}
    assert kinds["scale"] == kinds["offset"] == kinds["weights"] == (True, False)
    assert kinds["table"] == (True, False)
    assert kinds["name"] == kinds["widths"] == kinds["flag"] == (False, False)
    assert kinds["inner"] == kinds["maybe"] == (False, True)
    assert [f.meaning for f in fields(Inner)] == ["a rate", "a size"]


def test_schema_names():
    assert schema_name(QLearning()) == "q_learning"
    assert schema_name(Adam()) == "adam"
    with pytest.raises(ConfigError, match="Inner is no named config"):
        schema_name(Inner())


def test_nearest():
    assert nearest("adm", ["sgd", "adam"]) == "; did you mean 'adam'?"
    assert nearest("zzz", ["sgd", "adam"]) == ""


# ------------------------------------------------------------------------- canonical


def test_canonical_makes_one_tree_of_python_and_yaml_values():
    built = Outer(
        scale=1, weights=[0, 2], table={"b": 1, "a": 2}, widths=[4], inner=Inner(rate=2)
    )
    made = canonical(built)
    assert (made.scale, made.weights, made.widths) == (1.0, (0.0, 2.0), (4,))
    numbers = (made.scale, made.inner.rate, *made.weights, *made.table.values())
    assert {type(x) for x in numbers} == {float}
    assert list(made.table.items()) == [("a", 2.0), ("b", 1.0)]
    assert {type(x) for x in made.widths} == {int}


def test_canonical_takes_numbers_of_numpy():
    made = canonical(Outer(scale=np.float32(0.5), inner=Inner(size=np.int64(4))))
    assert (type(made.scale), made.scale) == (float, 0.5)
    assert (type(made.inner.size), made.inner.size) == (int, 4)


def test_canonical_leaves_its_argument_alone():
    value = Outer(scale=1, widths=[4])
    canonical(value)
    assert type(value.scale) is int
    assert value.widths == [4]


def test_every_default_is_canonical():
    for made in [Config(), *(cls() for cls in SCHEMAS.values())]:
        assert canonical(made) == made
        assert structure(canonical(made)) == structure(made)


REFUSED = [
    ({"scale": math.nan}, "scale=nan: expected a number in [0, 1]"),
    ({"scale": True}, "scale=True: expected a number in [0, 1]"),
    ({"scale": "fast"}, "scale='fast': expected a number in [0, 1]"),
    ({"scale": None}, "scale=None: expected a number in [0, 1]"),
    ({"scale": 1.5}, "scale=1.5: expected a number in [0, 1]"),
    ({"offset": math.inf}, "offset=inf: expected a number in (-inf, inf) or null"),
    ({"weights": (1.0, -2.0)}, "weights=-2.0: expected a list, each a number in "),
    ({"weights": 1.0}, "weights=1.0: expected a list, each a number in [0, inf) or"),
    ({"table": {"g": "x"}}, "table={'g': 'x'}: expected a number"),
    ({"table": {"g": math.nan}}, "table.g=nan: expected a number"),
    ({"name": "alpa"}, "one of alpha, beta, a; did you mean 'alpha'?"),
    ({"label": 3}, "label=3: expected str or null"),
    ({"flag": 1}, "flag=1: expected bool"),
    ({"flag": "yes"}, "flag='yes': expected bool"),
    ({"widths": (0,)}, "widths=0: expected a list, each an integer in [1, 2147483647]"),
    ({"widths": (2.5,)}, "widths=(2.5,): expected a list, each an integer"),
    ({"widths": 8}, "widths=8: expected a list, each an integer in [1, 2147483647]"),
    ({"inner": Inner(rate=0)}, "inner.rate=0.0: expected a number in (0, inf)"),
    ({"inner": Inner(size=0)}, "inner.size=0: expected an integer in [1, 2147483647]"),
    (
        {"inner": Inner(size=2.0)},
        "inner.size=2.0: expected an integer in [1, 2147483647]",
    ),
    ({"inner": Inner(size=2**31)}, "inner.size=2147483648: expected an integer in [1"),
    ({"inner": Inner(size=10**400)}, "00...00"),
    ({"inner": Inner(size=10**5000)}, "inner.size=int of thousands of digits: expe"),
    ({"inner": Inner(rate=10**400)}, "inner.rate=inf: expected a number in (0, inf)"),
    ({"inner": Inner(rate=-(10**400))}, "inner.rate=-inf: expected a number in (0"),
    ({"widths": (2**31,)}, "widths=2147483648: expected a list, each an integer"),
    ({"name": "a" * 999}, f"name='{'a' * 31}...{'a' * 31}': expected one of alpha"),
    ({"label": ["a"] * 999}, "'a'): expected str or null"),
    ({"inner": Inner(size=True)}, "inner.size=True: expected an integer"),
    ({"inner": None}, "inner=None: expected a config Inner"),
    ({"inner": "small"}, "inner='small': expected a config Inner"),
    ({"maybe": Replay()}, "maybe=replay/buffer: expected a config Inner or null"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_canonical_refuses(change, message):
    with pytest.raises(ConfigError) as caught:
        canonical(Outer(**change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent.discount": 2.0}, "agent.discount=2.0: expected a number in [0, 1]"),
        ({"agent.loss": "q_lerning"}, "did you mean 'q_learning'?"),
        ({"replay.priority": "td_eror"}, "did you mean 'td_error'?"),
        ({"network": None}, "network=None: expected one of network/mlp, network/lin"),
        ({"network": "mlp"}, "network='mlp': expected one of network/mlp"),
        ({"optimizer": MLP()}, "optimizer=network/mlp: expected one of optimizer/sgd"),
        ({"agent": Adam()}, "agent=optimizer/adam: expected one of agent/q_learning"),
        ({"env": Adam()}, "env=optimizer/adam: expected a config Env"),
        ({"replay": "none"}, "replay='none': expected a config Replay or null"),
    ],
)
def test_the_door_names_the_whole_path(changes, message):
    with pytest.raises(ConfigError) as caught:
        canonical(replace(Config(), changes))
    assert message in str(caught.value)


def test_a_config_of_ones_own_may_stand_where_the_type_is_open():
    @config
    class Mine:
        discount: float = number(0.5, "discount")

    assert canonical(Config(agent=Mine(discount=1))).agent == Mine(1.0)


def test_check_takes_a_prefix():
    with pytest.raises(ConfigError, match=r"^section\.rate=-1\.0"):
        check(Inner(rate=-1.0), "section.")


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (real, [-1e300, 0.0, 1e300], [math.inf, -math.inf, math.nan]),
        (positive, [5e-324, 1.0], [0.0, -1.0, math.inf]),
        (non_negative, [0.0, 1.0], [-5e-324, math.inf]),
        (unit, [0.0, 0.5, 1.0], [-5e-324, 1.0000000000000002, math.nan]),
        (at_least(2), [2, 3], [1, -math.inf]),
        (Interval(0.0, 1.0), [0.5], [0.0, 1.0]),
        (Interval(0.0, 1.0, high_closed=True), [1.0], [0.0]),
        (one_of("a", "b"), ["a"], ["c", 1, None]),
    ],
)
def test_domains(domain, inside, outside):
    assert [x for x in inside if x not in domain] == []
    assert [x for x in outside if x in domain] == []
    assert True not in domain


def test_whole_numbers_end_where_the_counts_of_the_program_do():
    @config
    class Counts:
        free: int = setting(0, "no domain")
        many: tuple[int, ...] = setting((1,), "half a domain", at_least(1))
        seed: int = setting(0, "both ends are its own", between(0, 2**32 - 1))
        word: str | int = setting(0, "not only a number")

    words = {f.name: describe(f) for f in fields(Counts)}
    assert words["free"] == "an integer in [-2147483647, 2147483647]"
    assert words["many"] == "a list, each an integer in [1, 2147483647]"
    assert words["seed"] == "an integer in [0, 4294967295]"
    assert words["word"] == "str | int"
    assert canonical(Counts(many=(2**31 - 1,), seed=2**32 - 1)).seed == 4294967295


def test_a_bare_number_has_ends_too():
    @config
    class Bare:
        free: float = setting(0.0, "no domain")
        table: dict[str, float] = setting({}, "no domain")

    for change in ({"free": math.inf}, {"free": math.nan}, {"table": {"a": math.inf}}):
        with pytest.raises(ConfigError, match=r"a number in \(-inf, inf\)"):
            canonical(Bare(**change))


@pytest.mark.parametrize(
    "cls", [Config, *SCHEMAS.values()], ids=lambda cls: cls.__name__
)
def test_every_number_has_both_ends(cls):
    declared = [field for _, field, _ in walk(cls())]
    floats = [f for f in declared if f.is_leaf]
    counts = [f for f in declared if "an integer" in describe(f)]
    wrong = (-math.inf, math.inf, math.nan)
    assert [f.name for f in floats for x in wrong if x in f.domain] == []
    assert [f.name for f in counts for x in (-(2**31), 2**32) if x in f.domain] == []
    described = {f.name for f in (*floats, *counts)}
    assert all(f.name in described for f in declared if type(f.default) in (int, float))


def test_domains_in_words():
    words = {f.name: describe(f) for f in fields(Outer)}
    assert words["scale"] == "a number in [0, 1]"
    assert words["name"] == "one of alpha, beta, a"
    assert words["label"] == "str or null"
    assert words["weights"] == "a list, each a number in [0, inf) or null"
    assert words["maybe"] == "a config Inner or null"
    assert str(Interval(0.0, 1.0, high_closed=True)) == "a number in (0, 1]"


# ------------------------------------------------------------------------- annealing


def test_a_number_moves_to_its_end_over_a_part_of_training():
    policy = BehaviourPolicy(epsilon=1.0, epsilon_final=0.5, epsilon_fraction=0.25)
    values = [float(anneal(policy, p).epsilon) for p in (0.0, 0.125, 0.25, 0.5, 1.0)]
    assert values == [1.0, 0.75, 0.5, 0.5, 0.5]


def test_a_relative_end_is_a_factor():
    adam = Adam(learning_rate=0.5, learning_rate_decay=0.25)
    values = [float(anneal(adam, p).learning_rate) for p in (0.0, 0.5, 1.0)]
    assert values == [0.5, 0.3125, 0.125]


def test_annealing_reaches_every_section_and_nothing_else():
    value = Config(
        agent=QLearning(behaviour_policy=BehaviourPolicy(epsilon_final=0.0)),
        optimizer=SGD(learning_rate=1.0, learning_rate_decay=0.0),
        replay=Replay(importance=Importance(exponent=0.5, exponent_final=1.0)),
    )
    half = anneal(value, 0.5)
    assert float(half.optimizer.learning_rate) == 0.5
    assert float(half.replay.importance.exponent) == 0.75
    assert float(half.agent.behaviour_policy.epsilon) == pytest.approx(0.05)
    back = {
        p: get(value, p) for p in leaf_paths(value) if get(half, p) != get(value, p)
    }
    assert sorted(back) == [
        "agent.behaviour_policy.epsilon",
        "optimizer.learning_rate",
        "replay.importance.exponent",
    ]
    assert anneal(Config(), 0.5) == Config()


def test_a_schedule_is_differentiable():
    policy = BehaviourPolicy(epsilon=1.0, epsilon_final=0.5, epsilon_fraction=0.5)
    slope = jax.grad(lambda p: anneal(p, 0.125).epsilon)(policy)
    assert float(slope.epsilon) == 0.75
    assert float(slope.epsilon_final) == 0.25
    # epsilon = 1 - 0.5 * progress / fraction
    assert float(slope.epsilon_fraction) == 0.25


# ------------------------------------------------------- every number can be an input


def _some(field: Any) -> Any:
    """A number inside the domain of a field whose default is null or empty."""
    if "tuple" in str(field.type):
        return (0.5, 0.25, 0.75)
    return {"gravity": 5.0} if "dict" in str(field.type) else 0.5


def _full(cls: type) -> Any:
    """A config of this class with every number set, none null."""
    made = cls()
    for field in fields(cls):
        value = getattr(made, field.name)
        if is_config(value):
            setattr(made, field.name, _full(type(value)))
        elif field.is_leaf and not value:
            setattr(made, field.name, _some(field))
    return made


def _whole(agent: str, network: str, optimizer: str, **changes: Any) -> Config:
    made = _full(Config)
    made.agent = _full(SCHEMAS[f"agent/{agent}"])
    for name in {"loss", "td_gradient"} & set(changes):
        setattr(made.agent, name, changes[name])
    if agent == "q_learning":
        made.agent.behaviour_policy.name = "softmax"
    made.network = _full(SCHEMAS[f"network/{network}"])
    if network != "linear":
        made.network.hidden = (4,)
    made.optimizer = _full(SCHEMAS[f"optimizer/{optimizer}"])
    made.optimizer.layer_factors = {_LAYER[network]: 0.5}
    made.gradient = Gradient(
        UpdateClip(changes.get("clip"), 0.125, 6.3),
        changes.get("inside", GraphClip()),
        PerExampleClip(**changes.get("examples", {})),
    )
    return canonical(made)


def _agent(value: Config) -> Any:
    return register.get("agent", schema_name(value.agent))(value, 2)


def _shape(value: Config) -> tuple[int, ...]:
    return (4, 4, 1) if schema_name(value.network) == "convolution" else (3,)


def _start(value: Config) -> Any:
    return _agent(value).init(jax.random.key(0), jnp.ones(_shape(value)), value)


def _batch(shape: tuple[int, ...], discount: Any = 0.5) -> Transition:
    obs = jax.random.normal(jax.random.key(1), (2, 6, *shape))
    zeros = jnp.zeros(6, bool)
    return Transition(
        s_tm1=obs[0],
        a_tm1=jnp.array([0, 1, 0, 1, 0, 1]),
        r_t=jnp.arange(6.0),
        s_t=obs[1],
        terminated=zeros,
        truncated=zeros,
        discount_t=jnp.full(6, discount),
        rho=jnp.ones(6),
    )


def _learned(value: Config) -> jax.Array:
    """A number that depends on the parameters after three updates."""
    value = anneal(value, 0.5)
    agent = _agent(value)
    batch = _batch(_shape(value), value.agent.discount)
    in_order = schema_name(value.agent) in ("td_lambda", "n_step_td")
    weights = None if in_order else jnp.arange(6.0)

    def step(state: Any, _: None) -> tuple[Any, None]:
        return agent.update(state, batch, weights, value)[0], None

    state, _ = jax.lax.scan(step, _start(value), length=3)
    return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(state.params))


def _optimizer(*names: str) -> set[str]:
    return {f"optimizer.{name}" for name in ("learning_rate_decay", *names)}


_LAYER = {"mlp": "Dense_1", "linear": "all", "convolution": "Conv_0"}
COMMON = {"agent.discount", "agent.target.polyak", "optimizer.learning_rate"}
SGD_INPUTS = COMMON | _optimizer("momentum")
ADAM_INPUTS = COMMON | _optimizer("b1", "b2", "eps", "eps_root")
RMSPROP_INPUTS = COMMON | _optimizer("decay", "eps", "momentum")
WEIGHTS = {f"network.initial_weights.{i}" for i in range(3)}
SECONDARY = {
    "agent.secondary.learning_rate_ratio",
    "agent.secondary.regulariser",
}
# What an update really depends on, for each choice of the parts of an agent.
INPUTS = [
    ("q_learning convolution adam", {}, ADAM_INPUTS | {"network.scale"}),
    (
        "q_learning mlp rmsprop",
        {"loss": "expected_sarsa"},
        RMSPROP_INPUTS | {"agent.behaviour_policy.temperature"},
    ),
    ("prediction linear sgd", {}, SGD_INPUTS | WEIGHTS),
    ("n_step_td linear sgd", {}, SGD_INPUTS | WEIGHTS),
    ("td_lambda linear sgd", {}, SGD_INPUTS | WEIGHTS | {"agent.trace_decay"}),
    (
        "prediction linear sgd",
        {"td_gradient": "interpolate"},
        SGD_INPUTS | WEIGHTS | {"agent.interpolation"},
    ),
    (
        "prediction linear sgd",
        {"td_gradient": "tdrc"},
        SGD_INPUTS | WEIGHTS | SECONDARY,
    ),
    ("q_learning mlp adam", {"td_gradient": "qrc"}, ADAM_INPUTS | SECONDARY),
    (
        "prediction linear sgd",
        {"clip": "global_norm"},
        SGD_INPUTS | WEIGHTS | {"gradient.update.max_norm"},
    ),
    (
        "prediction linear sgd",
        {"clip": "element"},
        SGD_INPUTS | WEIGHTS | {"gradient.update.max_abs"},
    ),
    (
        "prediction linear sgd",
        {"clip": "block_rms"},
        SGD_INPUTS | WEIGHTS | {"gradient.update.max_rms"},
    ),
    (
        "prediction linear sgd",
        {"clip": "per_layer"},
        SGD_INPUTS | WEIGHTS | {"gradient.update.max_norm"},
    ),
    (
        "prediction linear sgd",
        {"clip": "agc"},
        SGD_INPUTS | WEIGHTS | {"gradient.update.max_ratio"},
    ),
    (
        "prediction linear sgd",
        {"clip": "autoclip"},
        SGD_INPUTS | WEIGHTS | {"gradient.update.percentile"},
    ),
    (
        "prediction linear sgd",
        {"inside": GraphClip(max_abs=0.5)},
        SGD_INPUTS | WEIGHTS | {"gradient.clip.max_abs"},
    ),
    (
        "prediction linear sgd",
        {"inside": GraphClip(max_norm=0.5)},
        SGD_INPUTS | WEIGHTS | {"gradient.clip.max_norm"},
    ),
    (
        "prediction linear sgd",
        {"examples": {"max_norm": 0.5}},
        SGD_INPUTS | WEIGHTS | {"gradient.per_example.max_norm"},
    ),
    (
        "prediction linear sgd",
        {"examples": {"quantile": 0.5}},
        SGD_INPUTS | WEIGHTS | {"gradient.per_example.quantile"},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "changes", "expected"), INPUTS)
def test_an_update_is_differentiable_in_every_number(parts, changes, expected):
    value = _whole(*parts.split(), **changes)
    slope = jax.jit(jax.grad(_learned))(value)
    paths = leaf_paths(value)
    assert leaf_paths(slope) == paths
    assert all(math.isfinite(get(slope, path)) for path in paths)
    moved = {path for path in paths if get(slope, path) != 0.0}
    assert moved == expected | {f"optimizer.layer_factors.{_LAYER[parts.split()[1]]}"}


@pytest.mark.slow
def test_the_initial_value_of_a_linear_network_is_an_input():
    value = _whole("prediction", "linear", "sgd")
    value = replace(value, {"network": Linear(initial_value=0.25)})
    slope = jax.jit(jax.grad(_learned))(value)
    assert float(slope.network.initial_value) != 0.0


def _classes(value: Any) -> Iterator[type]:
    yield type(value)
    for _, _, inner in walk(value):
        if is_config(inner):
            yield type(inner)


def test_the_tests_above_trace_every_float_field_of_every_config():
    tested = [_whole(*parts.split(), **changes) for parts, changes, _ in INPUTS]
    traced = {
        (cls, name)
        for value in tested
        for section in [value, *(v for _, _, v in walk(value) if is_config(v))]
        for cls in [type(section)]
        for name in {p.split(".")[0] for p in leaf_paths(section)}
    }
    known = [Config(), *(cls() for cls in SCHEMAS.values()), Wrappers(), Prediction()]
    classes = {cls for value in known for cls in _classes(value)}
    wanted = {(c, f.name) for c in classes for f in fields(c) if f.is_leaf}
    own = {(c, n) for c, n in wanted if c.__module__.startswith("rl_grads.")}
    assert len(own) >= 30
    assert own - traced == set()


def test_sections_without_numbers_have_no_leaves():
    assert jax.tree.leaves([Training(), MLP()]) == []


def test_every_field_says_what_it_means():
    known = [Config(), *(cls() for cls in SCHEMAS.values())]
    for value in known:
        for path, field, _ in walk(value):
            assert field.meaning, path
            assert dataclasses.is_dataclass(value)
