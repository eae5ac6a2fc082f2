"""Quoting: any name, value and path is read by DuckDB as it is written."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.engine import sql

pytestmark = pytest.mark.unit

CONNECTION = duckdb.connect()
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@settings(deadline=None)
@given(name=TEXTS, value=TEXTS)
def test_names_and_values_are_read_as_they_are(name: str, value: str) -> None:
    """A column with any name and a text with any letters come back unchanged, quotes included."""
    result = CONNECTION.execute(f"select {sql.literal(value)} as {sql.column(name)}")
    assert result.description is not None
    assert result.description[0][0] == name
    assert result.fetchall() == [(value,)]


def test_a_list_of_columns_is_separated_by_commas() -> None:
    """Each name is quoted by itself."""
    assert sql.columns(["a", 'b"c']) == '"a", "b""c"'


def test_a_parquet_file_with_a_quote_in_its_path_is_read_without_folder_columns(tmp_path: Path) -> None:
    """Neither a quote nor a folder such as `day=1` changes the columns."""
    path = tmp_path / "day=1" / "it's.parquet"
    path.parent.mkdir()
    CONNECTION.execute(f"copy (select 7 as x) to {sql.literal(path)} (format parquet)")
    assert CONNECTION.execute(f"select * from {sql.parquet(path)}").fetchall() == [(7,)]
