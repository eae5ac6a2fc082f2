"""Markdown tables, and JSON schema types in words."""

import pytest

from docs.generator.markdown import table, type_of, value

pytestmark = pytest.mark.unit


def test_a_cell_stays_one_cell() -> None:
    """A pipe and a line break inside a cell do not end it."""
    assert table(["a"], [["x | y\nz"]]).splitlines()[2] == "| x \\| y z |"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, "integer > 0"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number ≥ 0 and < 1"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "integer"),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, "date or `null`"),
        ({"enum": ["time", "random"]}, "`time`, `random`"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "list of text (at least 1)"),
        (
            {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 32},
            "list of number (1 to 32 of them)",
        ),
        ({"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}, "mapping to number ≥ 0"),
        ({"type": "string", "pattern": "^a/b$"}, "text like `^a/b$`"),
        ({"$ref": "#/components/schemas/Range"}, "[Range](#range)"),
    ],
)
def test_a_type_is_said_in_words(schema: dict, words: str) -> None:
    """Bounds, values, lengths and links are in the words; a bound of the machine's number is not."""
    assert type_of(schema) == words


@pytest.mark.parametrize(("plain", "shown"), [("time", "`time`"), (["a"], '`["a"]`'), (None, "`null`"), (0.5, "`0.5`")])
def test_a_value_is_shown_as_in_the_file(plain: object, shown: str) -> None:
    """Text without quotation marks, everything else as JSON."""
    assert value(plain) == shown
