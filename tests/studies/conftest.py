import pytest


@pytest.fixture(autouse=True)
def _quickly(quick_compiler):
    """Programs of these tests run for less time than they take to optimise."""
