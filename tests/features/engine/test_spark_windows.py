"""What drift reports read on Spark: the reference of the training rows and a window, equal to those of DuckDB."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from common.params import Engine
from features.encoding.fitting import fit_encoder
from features.encoding.histograms import Histograms
from features.engine.engines import open_engine
from features.schema import Schema, inputs, read_views
from features.summarize import summarize
from models.model_folder import REFERENCE, read_model
from monitoring.detection.drift_report import compare
from monitoring.detection.readable import UnreadableWindowError
from tests.support import spark, tiny_project, world

pytestmark = [pytest.mark.integration, spark.needs_spark]
STATISTICS = re.compile(r".*_(impressions|rate|mean)_.*")
ODD = [None, np.nan, np.inf, -np.inf, -0.0, 0.0, 1e15, -3.0, 1 / 128, 0.1]


@pytest.fixture(scope="module", autouse=True)
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One session for the tests of this file."""
    with spark.spark_session(tmp_path_factory.mktemp("spark")):
        yield


def training_rows(folder: Path) -> tuple[Schema, Path]:
    """The training folder of a world with every kind of column and odd numbers, and its schema."""
    schema = spark.numbers_schema()
    spark.write_world(folder, schema, spark.numbers_tables(rows=400, seed=2), encode__hash_buckets={"user_id": 4})
    training = spark.run(folder, spark.DUCKDB) / "training"
    table = pq.read_table(training / "train.parquet")
    for name in ("weight", "price"):
        values = np.array(ODD * table.num_rows)[: table.num_rows]
        column = pa.array(values.tolist(), table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, training / "train.parquet")
    return schema, training


def test_the_reference_is_that_of_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bins, counts, sums, effective numbers, targets and values held out, of every kind of column: the same bytes."""
    monkeypatch.setattr("features.encoding.bins.COMMONEST", 5)
    schema, training = training_rows(tmp_path)
    columns = inputs(schema, read_views(training.parent / "features" / "views.json"))
    few = tuple(column for column in columns if not STATISTICS.fullmatch(column.name))
    encoder = fit_encoder(schema, few, training / "train.parquet", 2, maximum_values={"item_id": 5})
    encoder.write(tmp_path / "encoder.parquet")
    written = {}
    with contextlib.chdir(tmp_path):
        for engine in (spark.DUCKDB, spark.SPARK):
            world.write_engine(tmp_path, engine)
            out = tmp_path / f"{engine['name']}.json"
            summarize(schema=Path("schema.json"), encoder=Path("encoder.parquet"), training=training, out=out)
            written[engine["name"]] = out.read_bytes()
    reference = Histograms.read(tmp_path / "duckdb.json")
    assert {"tags", "tags: length", "image: norm", "image: cosine", "user_recent_items: age"} <= set(reference.counts)
    assert reference.effective
    assert any(map(any, reference.held_out.values()))
    assert reference.targets["watch"].counts.any()
    assert written["spark"] == written["duckdb"]
    assert not list(tmp_path.glob(".*partial"))


def test_a_window_is_that_of_duckdb(tmp_path: Path) -> None:
    """Checks, histograms of two days, and the sample that is scored: the same comparison with the reference."""
    root = tiny_project.build(tmp_path / "project", rows=1500, aggregate__windows=[1], drift__scored_rows=200)
    path, model = root / tiny_project.MODEL / REFERENCE, read_model(root / tiny_project.MODEL)
    plain = json.loads(path.read_text())
    bins = [one for one in plain["bins"] if one["name"] in ("user_id", "price", "tags", "item_click_rate_1d")]
    path.write_text(json.dumps({**plain, "bins": bins}))  # a statement of Spark takes a third of a second
    with contextlib.chdir(root):
        current, limits = Path("data/training/t*.parquet"), params.load().drift
        start = pq.read_table("data/training/test.parquet")["timestamp"][0].as_py().date()
        given = (current, model, tiny_project.MODEL, limits)
        expected = compare(*given, days=(start, start))
        with open_engine(Engine.model_validate(spark.SPARK), tmp_path / "spill") as engine:
            assert compare(*given, days=(start, start), engine=engine) == expected
            table = pq.read_table("data/training/test.parquet")
            clicks = pa.array([7, 3] + [0] * (table.num_rows - 2), pa.int8())
            pq.write_table(
                table.set_column(table.column_names.index("click"), "click", clicks), tmp_path / "bad.parquet"
            )
            with pytest.raises(UnreadableWindowError, match=r"column click is a label: .*, found 3, 7 in 2 rows"):
                compare(tmp_path / "bad.parquet", *given[1:], engine=engine)
    assert expected["current"]["rows"] > 200
    assert len(bins) == len(expected["columns"]) == 4
