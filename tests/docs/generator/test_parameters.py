"""The table of params.yaml."""

import pytest

from common.paths import ROOT
from docs.generator.parameters import comments, parameters

pytestmark = pytest.mark.unit


def test_a_comment_belongs_to_its_key() -> None:
    """A comment behind a key is that of the key; lines below continue it; keys are dotted paths."""
    text = 'a:\n  b: 1 # first\n  c: # second\n    # goes on\n    d: "x"\ne: 2 # third\n'
    assert comments(text) == {"a.b": "first", "a.c": "second goes on", "e": "third"}


def test_every_key_of_params_yaml_has_a_row() -> None:
    """No key is left out, and its row shows the value of the file."""
    rows = parameters(ROOT).splitlines()
    assert sum(row.startswith("| `simulation.") for row in rows) >= 7
    (split,) = (row for row in rows if row.startswith("| `split` "))
    key, kind, shown, meaning = (cell.strip() for cell in split.strip("| ").replace("\\|", "/").split("|"))
    assert (key, kind, shown) == ("`split`", "`time`, `random`", "`time`")
    assert meaning == "time: the last days are valid and test / random: rows drawn at random"
