"""Encoded rows that travel as bytes: the same files as those of rows that are encoded here."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.encoding.fitting import fit_encoder
from features.encoding.mapped_tensors import encoded_rows
from features.encoding.tensors import write_tensors
from features.engine.engines import DuckDBEngine
from features.schema import inputs, read_views
from tests.support import spark

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("rows", [0, 1, 150])
def test_the_files_are_the_same_bytes(tmp_path: Path, rows: int) -> None:
    """Numbers, lists, vectors and labels, of no row, of one and of many."""
    schema = spark.numbers_schema()
    folder = spark.write_world(tmp_path, schema, spark.numbers_tables(rows=200, seed=3))
    written = spark.run(folder, spark.DUCKDB)
    encoder = fit_encoder(
        schema, inputs(schema, read_views(written / "features" / "views.json")), written / spark.JOINED[0], 2
    )
    path = tmp_path / "some.parquet"
    table = pa.concat_tables([pq.read_table(written / file) for file in spark.JOINED]).slice(0, rows)
    pq.write_table(table, path)
    with duckdb.connect() as connection:
        encoded = encoded_rows(DuckDBEngine(connection), encoder, schema, path)
        write_tensors(encoder, schema, path, tmp_path / "mapped", encoded)
    write_tensors(encoder, schema, path, tmp_path / "here")
    files = {file.name: file.read_bytes() for file in (tmp_path / "here").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "mapped").iterdir()} == files
    assert len(files) == (7 if rows else 1)
