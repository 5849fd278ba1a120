"""The examples in docstrings do what they say."""

import doctest
import importlib

import pytest

from scripts.rooms import PACKAGE, modules

# An example that trains; `tests/test_library.py` does so in less time.
TRAINS = f"{PACKAGE}.training.train"


@pytest.mark.parametrize("name", [n for n in modules(PACKAGE) if n != TRAINS])
def test_examples_hold(name, tmp_path, monkeypatch, as_registered):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.slow
def test_the_example_that_trains_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(TRAINS)).failed == 0
