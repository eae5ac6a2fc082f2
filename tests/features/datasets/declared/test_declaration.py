"""What a declaration says, and what is refused."""

import datetime
from pathlib import Path

import pytest

from common.errors import ParameterError, SchemaError, SourceError
from features.datasets.declared.declaration import read_declaration
from features.schema import Column, DType, Kind, Role
from tests.support import small_log

pytestmark = pytest.mark.unit


def _read(tmp_path: Path, text: str = small_log.DECLARATION):
    path = tmp_path / "dataset.yaml"
    path.write_text(text)
    return read_declaration(path)


def test_schema(tmp_path):
    """Words and mappings become the columns, scenarios and tasks of the schema."""
    schema = _read(tmp_path).declared_schema()
    assert (schema.name, schema.scenarios) == ("videos", ("home", "search"))
    assert [(task.name, task.requires) for task in schema.tasks] == [("click", None), ("like", "click")]
    assert schema.users[1] == Column(name="age", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.NUMERIC, nullable=True)
    assert [column.name for column in schema.events] == [
        "event_id",
        "timestamp",
        "uid",
        "video",
        "scenario",
        "device",
        "click",
        "like",
    ]


def test_bounds_of_a_timestamp_are_dates(tmp_path):
    """A bound of a timestamp is a date, kept in seconds since 1970."""
    text = small_log.DECLARATION.replace("sql: to_timestamp(ts)", "sql: to_timestamp(ts), minimum: 2026-01-05")
    timestamp = _read(tmp_path, text).declared_schema().by_role(Role.TIMESTAMP)[0]
    assert timestamp.minimum == datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC).timestamp()


def test_a_vector_is_a_line_of_words(tmp_path):
    """Kind, type and length; the type may be left out."""
    for words in ("vector float32_list length 64 nullable", "vector length 64 nullable"):
        text = small_log.DECLARATION.replace("age: numeric int64 nullable", f"age: {words}")
        assert _read(tmp_path, text).declared_schema().users[1] == Column(
            name="age", role=Role.FEATURE, dtype=DType.FLOAT32_LIST, kind=Kind.VECTOR, length=64, nullable=True
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("age: numeric int64 nullable", "age: number", "'number' is no role, kind, type or flag"),
        ("age: numeric int64 nullable", "age: numeric categorical", "'categorical' is a second kind"),
        ("age: numeric int64 nullable", "age: int64", "column age: a feature needs a kind and a type"),
        ("age: numeric int64 nullable", "age: {kind: numeric, typ: int64}", "users.columns.age.typ"),
        (", values: [home, search]}", "}", "one column of role scenario, with its values"),
        ("uid: user int64", "uid: categorical int64", "exactly one column of role user"),
        ("age: numeric int64 nullable", "age: vector length", "'length' is no role, kind, type or flag"),
        ("age: numeric int64 nullable", "age: vector", "column age: a vector needs a length from 1"),
        ("age: numeric int64 nullable", "age: {kind: vector, length: 0}", "a vector needs a length from 1"),
        ("age: numeric int64 nullable", "age: {kind: vector, length: 2, domain: x}", "a vector has no vocabulary"),
        ("age: numeric int64 nullable", "age: {kind: vector, length: 2, minimum: 0}", "float32_list has no minimum"),
        ("age: numeric int64 nullable", "age: {kind: vector, length: 2, log: true}", "log is for numeric features"),
        ("age: numeric int64 nullable", "age: {kind: vector, type: float32, length: 2}", "cannot be stored as float32"),
        ("requires: click", "requires: click_again", "requires unknown task click_again"),
        ("files: users.csv", "file: users.csv", "users.file"),
    ],
)
def test_what_is_refused(tmp_path, old, new, message):
    """A wrong word, key or reference is named."""
    assert old in small_log.DECLARATION
    with pytest.raises(SchemaError) as raised:
        _read(tmp_path, small_log.DECLARATION.replace(old, new)).declared_schema()
    assert message in str(raised.value)


def test_no_file(tmp_path):
    """Without the file the message says how one is made; text that is no YAML has its line."""
    with pytest.raises(SourceError, match=r"python -m features\.draft"):
        read_declaration(tmp_path / "dataset.yaml")
    with pytest.raises(ParameterError, match="line 2"):
        _read(tmp_path, "name: [")
