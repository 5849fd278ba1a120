import pytest

from rl_grads.results import REFERENCES, Reference
from rl_grads.results.references import normalised, reference


def test_ids_of_both_suites_have_one_reference(monkeypatch):
    assert reference("gymnasium/CartPole-v1") == reference("gymnax/CartPole-v1")
    assert reference("chain/baird") is None
    monkeypatch.setitem(REFERENCES, "a/mine", Reference(1.0, 3.0, "its maximum"))
    own = reference("a/mine")
    assert own is not None
    assert normalised([1.0, 4.0], own).tolist() == [0.0, 1.5]


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_says_where_it_comes_from(name):
    one = REFERENCES[name]
    assert one.low < one.high and one.source
