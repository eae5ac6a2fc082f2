"""The portable statements: each is translated for Spark, and what sqlglot would lose is refused."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot

from common.errors import EngineError
from common.params import Aggregate
from features.engine.daily_statistics import open_events, write_view
from features.engine.feature_views import feature_views
from features.engine.portable_sql import to_spark
from features.engine.window_join import define_training_rows
from features.schema import Schema
from tests.support import spark, world

pytestmark = pytest.mark.integration

SETTINGS = Aggregate(windows=[1, 3], prior_impressions=4, recent_items=3, delay_minutes=60)


class Statements(list[str]):
    """An engine that only collects its statements."""

    def read(self, name: str, path: Path, pattern: str | None = None) -> None:
        """A file is no statement."""

    def define(self, name: str, query: str) -> None:
        """Collect a statement."""
        self.append(query)

    keep = define

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Collect a statement; it has no rows."""
        self.append(query)
        return []

    def batches(self, query: str) -> list[pa.RecordBatch]:
        """Collect a statement; it has no rows."""
        self.append(query)
        return []

    def write(self, query: str, types: pa.Schema, out: Path) -> int:
        """Collect a statement; it has no rows."""
        self.append(query)
        return 0


@pytest.mark.parametrize("schema", [world.schema(), spark.numbers_schema()], ids=["tiny", "every kind"])
def test_every_statement_is_portable(schema: Schema, tmp_path: Path) -> None:
    """All statements of aggregate and join are translated: no fault, and another text that Spark's parser takes."""
    engine, views = Statements(), feature_views(schema, SETTINGS)
    open_events(engine, schema, tmp_path)
    for view in views:
        write_view(engine, schema, view, SETTINGS, tmp_path)
    define_training_rows(engine, schema, views, events=tmp_path, features=tmp_path)
    assert len(engine) == 12
    for statement in engine:
        assert sqlglot.parse_one(to_spark(statement), read="spark").find(sqlglot.exp.Select)


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
