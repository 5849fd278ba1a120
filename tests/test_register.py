"""Components by name: decorators, refusals, entry points."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from rl_grads import config as configs
from rl_grads import register
from rl_grads.agents.schema import MLP
from rl_grads.config import SCHEMAS, ConfigError, canonical, config, number
from rl_grads.training.schema import Config

pytestmark = pytest.mark.usefixtures("as_registered")

KINDS = (
    "agent",
    "clip",
    "diagnostic",
    "env",
    "estimator",
    "loss",
    "network",
    "optimizer",
    "priority",
    "sampler",
    "td_gradient",
    "trace",
    "tracker",
    "wrapper",
)


def test_the_kinds_are_all_here():
    assert sorted(register._COMPONENTS) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decorator_registers_and_returns_what_it_decorates(kind):
    def mine(*_): ...

    assert getattr(register, kind)("mine")(mine) is mine
    assert register.get(kind, "mine") is mine
    assert "mine" in register.names(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_component_of_the_same_name_is_refused(kind):
    decorate = getattr(register, kind)("mine")
    first = decorate(lambda: 1)
    assert decorate(first) is first  # The same again does no harm.
    with pytest.raises(ConfigError, match=f"^{kind} 'mine' is registered already$"):
        decorate(lambda: 2)
    assert register.get(kind, "mine") is first


def test_a_built_in_name_is_taken():
    with pytest.raises(ConfigError, match="loss 'td' is registered already"):
        register.loss("td")(lambda network: None)
    register.get("loss", "td")  # Also once it is loaded.
    with pytest.raises(ConfigError, match="loss 'td' is registered already"):
        register.loss("td")(lambda network: None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_name_leads_to_a_component(kind):
    for name in register.names(kind):
        found = register.get(kind, name)
        assert callable(found) or hasattr(found, "declares")
        assert register.get(kind, name) is register.get(kind, name)


@pytest.mark.parametrize("kind", ["agent", "network", "optimizer"])
def test_every_built_in_with_a_section_has_a_schema(kind):
    declared = {n.partition("/")[2] for n in SCHEMAS if n.startswith(f"{kind}/")}
    assert declared == set(register.names(kind))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("loss", "q_lerning", "no loss 'q_lerning'; did you mean 'q_learning'?"),
        ("optimizer", "adm", "no optimizer 'adm'; did you mean 'adam'?"),
        ("env", "anything", "no env 'anything'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(kind, name, message):
    with pytest.raises(ConfigError) as caught:
        register.get(kind, name)
    assert str(caught.value) == message


def test_a_registered_name_is_a_value_in_configs():
    mine = Config(replay=configs.replace(Config().replay, {"priority": "mine"}))
    with pytest.raises(ConfigError, match=r"replay\.priority='mine'"):
        canonical(mine)
    register.priority("mine")(lambda signals, config: None)
    assert canonical(mine).replay.priority == "mine"


def test_a_component_without_a_schema_gets_an_empty_one():
    register.network("mine")(lambda config, num_outputs: None)
    section = SCHEMAS["network/mine"]()
    assert configs.fields(type(section)) == ()
    assert configs.schema_name(section) == "mine"
    assert canonical(Config(network=section)).network == section


def test_a_component_brings_its_schema():
    @config
    class Mine:
        width: float = number(2.0, "width")

    register.network("mine", Mine)(lambda config, num_outputs: None)
    assert SCHEMAS["network/mine"] is Mine
    assert configs.schema_name(Mine()) == "mine"
    with pytest.raises(ConfigError, match="agent=network/mine"):
        canonical(Config(agent=Mine()))


def test_a_schema_leads_to_one_name_only():
    with pytest.raises(ConfigError, match="MLP belongs to network/mlp; derive"):
        register.network("mine", MLP)(lambda config, num_outputs: None)
    assert "mine" not in register.names("network")

    @config
    class Mine(MLP):
        slope: float = number(0.1, "slope")

    register.network("mine", Mine)(lambda config, num_outputs: None)
    assert configs.schema_name(Mine()) == "mine"
    assert configs.schema_name(MLP()) == "mlp"
    assert Mine().hidden == MLP().hidden


def test_a_schema_is_a_config_class():
    class Plain: ...

    with pytest.raises(ConfigError, match="expected a class made by `config`"):
        register.optimizer("mine", Plain)(lambda config: None)


def test_plugins_are_loaded_from_entry_points(monkeypatch):
    asked, loaded = [], []

    def entry_points(group):
        asked.append(group)
        return [
            SimpleNamespace(load=lambda: loaded.append("one")),
            SimpleNamespace(load=lambda: register.clip("two")(lambda config: None)),
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    register.load_plugins()
    assert asked == ["rl_grads.plugins"]
    assert loaded == ["one"]
    assert "two" in register.names("clip")
