"""models/networks/additions.py: what every network can be given beside its own idea."""

import doctest

import pytest

from models.networks import additions

pytestmark = pytest.mark.unit


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation gives what it says."""
    assert doctest.testmod(additions).failed == 0
