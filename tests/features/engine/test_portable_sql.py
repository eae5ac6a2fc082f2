"""The portable statements: each is translated for Spark, and what sqlglot would lose is refused."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot

from common.errors import EngineError
from common.params import Aggregate
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import fit_reference
from features.engine.daily_statistics import open_events, write_view
from features.engine.engines import DuckDBEngine
from features.engine.feature_views import feature_views
from features.engine.portable_sql import to_spark
from features.engine.window_join import define_training_rows
from features.schema import inputs
from tests.support import spark, world

pytestmark = pytest.mark.integration

SETTINGS = Aggregate(windows=[1, 3], prior_impressions=20, recent_items=20, delay_minutes=60)  # of write_world


class Recorded(DuckDBEngine):
    """DuckDB, and every statement that it ran."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection)
        self.statements: list[str] = []

    def _translated(self, query: str) -> str:
        self.statements.append(query)
        assert sqlglot.parse_one(to_spark(query), read="spark").find(sqlglot.exp.Select)
        return query

    def define(self, name: str, query: str) -> None:
        """Run a statement; the files that `read` defines are none."""
        super().define(name, query if "read_parquet" in query else self._translated(query))

    def keep(self, name: str, query: str) -> None:
        """Run a statement."""
        super().keep(name, self._translated(query))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a statement."""
        return super().rows(self._translated(query))

    def batches(self, query: str) -> Iterable[pa.RecordBatch]:
        """Run a statement."""
        return super().batches(self._translated(query))

    def write(self, query: str, types: pa.Schema, out: Path) -> int:
        """Run a statement."""
        return super().write(self._translated(query), types, out)


@pytest.mark.parametrize("name", ["tiny", "every kind"])
def test_every_statement_is_portable_and_joins_as_feast_does(name: str, tmp_path: Path) -> None:
    """All statements are translated without a fault; on DuckDB their training set has the rows of the stage join."""
    tiny = name == "tiny"
    schema = world.schema() if tiny else spark.numbers_schema()
    tables = world.tables(rows=200) if tiny else spark.numbers_tables(rows=200, seed=1)
    folder = spark.write_world(tmp_path, schema, tables)
    expected, views = spark.run(folder, spark.DUCKDB), feature_views(schema, SETTINGS)
    with duckdb.connect() as connection:
        engine = Recorded(connection)
        open_events(engine, schema, folder / "validated")
        for view in views:
            write_view(engine, schema, view, SETTINGS, folder / f"{view.name}.parquet")
        rows = define_training_rows(engine, schema, views, events=folder / "validated" / "events", features=folder)
        engine.write(f"select * from {rows} order by event_id", pa.schema([]), folder / "training.parquet")
        encoder = fit_encoder(schema, inputs(schema, views), folder / "training.parquet", 2, engine=engine)
        fit_reference(folder / "training.parquet", schema, encoder, engine)
    assert len(engine.statements) >= 100
    parts = [pq.read_table(expected / file) for file in spark.JOINED]
    assert repr(pq.read_table(folder / "training.parquet").to_pylist()) == repr(pa.concat_tables(parts).to_pylist())


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("select list(x order by p) from t", "order in an aggregate, which would be lost: ARRAY_AGG"),
        ("select sum(x order by p) over (partition by k) from t", "order in an aggregate"),
        ("select list_sort(list(x), 'desc') from t", "direction of a sort"),
        ("select * from a asof left join b on a.k = b.k and a.t >= b.t", "ASOF join"),
        ("select timestamp '1970-01-01' + to_days(n) from t", r"function TO_DAYS\(n\)"),
        ("select n + unnest([1, 2]) from t", "unnest in an expression"),
        ("select isfinite(x) from t", "function"),
        ("select isnan(x) from t", "function"),
        ("select len(x) from t", "function"),
        ("select x[n] from t", "index, which would be from 0 on"),
        ("select x::hugeint from t", "type"),
        ("select x::timestamptz from t", "type TIMESTAMPTZ"),
        ("select hash(x) from t", "function"),
        ("select strptime(x, '%Y') from t", "function"),
        ("select quantile_disc(x, 0.5) from t", "function"),
    ],
)
def test_what_spark_would_not_compute_alike_is_refused(statement: str, fault: str) -> None:
    """An error names the function, type or join, and the statement."""
    with pytest.raises(EngineError, match=fault):
        to_spark(statement)


WITHOUT = """
import sys
import subprocess
import sys
from pathlib import Path
from common.params import Engine
from features.engine.engines import open_engine
sys.modules["pyspark"] = None  # as where it is not installed
with open_engine(Engine(name="duckdb", master="local[*]", conf={}), Path("spill")) as engine:
    print(engine.rows("select 1"))
print([name for name in sys.modules if name.startswith(("py4j", "sqlglot"))])
try:
    open_engine(Engine(name="spark", master="local[*]", conf={}), Path("spill")).__enter__()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_nothing_of_spark_is_imported_without_it(tmp_path: Path) -> None:
    """DuckDB runs without the extra, and imports nothing of it; Spark says what to install."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, env=spark.environment(), capture_output=True, text=True
    )
    rows, modules, error = done.stdout.splitlines()
    assert (rows, modules) == ("[(1,)]", "[]"), done.stderr
    assert error.startswith("EngineError engine.name in params.yaml is spark, but pyspark is not installed here")
    assert "'.[spark]'" in error
