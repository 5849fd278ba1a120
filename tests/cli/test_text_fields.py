"""Text fields take what was typed, although Hydra reads numbers in it."""

import pytest

from rl_grads.cli import compose, text_fields
from tests.cli.test_compose import composed


@pytest.mark.parametrize(
    ("typed", "handed_on"),
    [
        ("run.id=2026_11_28", "run.id='2026_11_28'"),
        ("run.id=1e3", "run.id='1e3'"),
        ("run.id=007", "run.id=007"),  # Text to Hydra as well.
        ("run.id=1e3,2,b", "run.id='1e3','2',b"),
        ("run.id=true", "run.id='true'"),
        ("run.id=nan", "run.id='nan'"),
        ("run.id=null", "run.id=null"),
        ("run.id='1e3'", "run.id='1e3'"),
        ('run.id="1e3",1e4', "run.id=\"1e3\",'1e4'"),
        ("run.id=choice(1e3, b)", "run.id=choice('1e3', b)"),
        ("run.id=range(1,3)", "run.id=range(1,3)"),
        ("run.id=1e3 b", "run.id=1e3 b"),
        (r"run.id=a\,1e3", r"run.id=a\,1e3"),
        ("run.id=a:1e3", "run.id=a:1e3"),
        ("run.id=1e3=b", "run.id=1e3=b"),
        ("run.id=${seed}", "run.id=${seed}"),
        ("run.id=${seed}1e3", "run.id=${seed}1e3"),
        ("run.id=", "run.id="),
        ("+run.id=1e3", "+run.id='1e3'"),
        ("resume=1e3", "resume='1e3'"),
        ("agent.loss=1", "agent.loss='1'"),
        ("env.id=1.50", "env.id='1.50'"),
        ("tracking.wandb.tags=[1e3,a, 2_0]", "tracking.wandb.tags=['1e3',a, '2_0']"),
        ("hydra.run.dir=2026_11", "hydra.run.dir='2026_11'"),
        ("experiment=1e3", "experiment='1e3'"),
        ("experiment=[1]", "experiment=[1]"),
        ("training.total_steps=1_000", "training.total_steps=1_000"),
        ("optimizer.learning_rate=1e-3,1e-2", "optimizer.learning_rate=1e-3,1e-2"),
        ("optimizer=adam,sgd", "optimizer=adam,sgd"),
        ("--config-dir", "--config-dir"),
        ("run.id=(", "run.id=("),
    ],
)
def test_what_is_handed_on(typed, handed_on):
    assert compose.spell(typed) == handed_on


def test_text_fields_are_found_in_every_choice_of_a_group():
    keys = text_fields.keys()
    one = {"run.id", "resume", "precision", "agent.loss", "agent.trace"}
    one |= {"network.activation", "replay.priority", "replay.importance.normalise"}
    assert {keys[key] for key in one} == {False}
    assert keys["meta.learn"] and keys["tracking.wandb.tags"]
    assert not {"seed", "optimizer.learning_rate", "env.params", "agent"} & set(keys)


def test_a_text_field_holds_what_was_typed():
    config = composed("run.id=2026_11_28", "tracking.wandb.tags=[1e3,007,off]")
    assert config.run.id == "2026_11_28"
    assert config.tracking.wandb.tags == ("1e3", "007", "off")
    assert composed("tracking.wandb.group=1e3").tracking.wandb.group == "1e3"


@pytest.mark.slow
def test_a_sweep_over_names_that_look_like_numbers(train, home):
    status, _, err = train("-m", "tracking.wandb.group=1e3,2_0", "run.id=1_1")
    assert status == 0, err
    found = [
        (home / f"sweeps/1_1/{n}/.hydra/overrides.yaml").read_text() for n in (0, 1)
    ]
    assert ["1e3" in found[0], "2_0" in found[1]] == [True, True]


def test_a_number_of_thousands_of_digits_is_left_to_its_refusal():
    argument = f"meta.estimator={'9' * 5000}"
    assert text_fields.as_typed(argument) == argument
