"""The examples in docstrings do what they say."""

import doctest
import importlib
import inspect
from types import ModuleType

import pytest

from scripts.rooms import PACKAGE, modules

# An example that trains; `tests/test_library.py` does so in less time.
TRAINS = f"{PACKAGE}.training.train"


class Finder(doctest.DocTestFinder):
    """Finds what stands behind the check of a function's arrays, too."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object))


def failed(module: ModuleType) -> int:
    runner = doctest.DocTestRunner()
    return sum(runner.run(test).failed for test in Finder().find(module))


@pytest.mark.parametrize("name", [n for n in modules(PACKAGE) if n != TRAINS])
def test_examples_hold(name, tmp_path, monkeypatch, as_registered):
    monkeypatch.chdir(tmp_path)
    assert failed(importlib.import_module(name)) == 0


@pytest.mark.slow
def test_the_example_that_trains_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert failed(importlib.import_module(TRAINS)) == 0


def test_examples_of_functions_whose_arrays_are_checked_are_found():
    module = importlib.import_module(f"{PACKAGE}.td.errors")
    found = {test.name for test in Finder().find(module) if test.examples}
    assert f"{module.__name__}.td_error" in found
