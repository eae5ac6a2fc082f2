"""Spark in the tests: one small session on this machine, and data stages that run on both engines."""

import contextlib
import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import stored_files as stored
from common.paths import ROOT
from features.aggregate import aggregate
from features.datasets.simulation import dataset as simulation
from features.encode import encode
from features.encoding.fitting import fit_encoder
from features.join import join
from features.schema import (
    SPLITS,
    Column,
    DType,
    Role,
    Schema,
    Task,
    TaskKind,
    inputs,
    read_schema,
    read_views,
    to_json,
)
from features.summarize import summarize
from tests.support import rich_world, world

MISSING = [
    what
    for what, there in (("pyspark (make spark)", importlib.util.find_spec("pyspark")), ("Java", shutil.which("java")))
    if not there
]
needs_spark = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")
CODEGEN = "spark.sql.codegen.factoryMode", "spark.sql.codegen.wholeStage"
CONF = {  # tiny tables: what is compiled, by Spark or by the JVM, costs more than it saves
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.sql.shuffle.partitions": 2,
    CODEGEN[0]: "NO_CODEGEN",
    CODEGEN[1]: False,
}
SPARK = {"name": "spark", "master": "local[2]", "conf": CONF}
DUCKDB = {"name": "duckdb", "master": "local[2]", "conf": {}}
VIEWS = ("user", "item", "user_in_scenario")
AGGREGATED = [f"features/{name}.parquet" for name in VIEWS]
JOINED = [f"training/{name}.parquet" for name in SPLITS]


@contextlib.contextmanager
def spark_session(scratch: Path) -> Iterator[Any]:
    """A session that the engine of every stage in this process then has, as it would start it."""
    from common.params import Engine
    from features.engine import spark

    # The Java process may be that of an earlier file, with the environment of that time: no keys of a bucket.
    keys = {f"spark.executorEnv.{name}": value for name, value in os.environ.items() if name.startswith("AWS_")}
    session = spark._start(Engine.model_validate({**SPARK, "conf": {**CONF, **keys}}), scratch)
    yield session
    session.stop()


@contextlib.contextmanager
def compiled(session: Any) -> Iterator[None]:
    """The session compiles its queries, as it does without CONF."""
    for name in CODEGEN:
        session.conf.unset(name)
    yield
    for name in CODEGEN:
        session.conf.set(name, str(CONF[name]).lower() if CONF[name] is False else CONF[name])


def numbers_schema() -> Schema:
    """The tiny world with every kind of column, and a regression task."""
    rich = rich_world.rich_schema()
    watch = Column(name="watch", role=Role.LABEL, dtype=DType.FLOAT32, nullable=True, minimum=0)
    tasks = (*rich.tasks, Task(name="watch", kind=TaskKind.REGRESSION))
    return dataclasses.replace(rich, events=(*rich.events, watch), tasks=tasks)


def numbers_tables(*, rows: int, seed: int) -> dict[str, pd.DataFrame]:
    """Tables of `numbers_schema`; some watch times lie half between two millionths, or are not observed."""
    random = np.random.default_rng(seed)
    tables = {name: table.to_pandas() for name, table in rich_world.rich_tables(rows=12).items()}
    events = world.tables(rows=rows, seed=seed, days=7)["events"]
    watch = random.choice([1 / 128, 3 / 128, 0.1, 12.25, 1e6, np.nan], rows).astype("float32")
    order = events["order"].astype("Int8").mask(random.random(rows) < 0.2)
    return {**tables, "events": events.assign(watch=watch, order=order)}


def write_world(folder: Path, schema: Schema, tables: dict[str, pd.DataFrame], **params: object) -> Path:
    """Write `tables` as validated data with schema and params.yaml; returns the folder."""
    from features.engine.arrow_types import arrow_schema

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.json").write_text(to_json(schema))
    typed = {
        name: pa.Table.from_pandas(frame, arrow_schema(schema.tables[name]), preserve_index=False)
        for name, frame in tables.items()
    }
    days = pd.Series(typed["events"][schema.timestamp].to_pandas()).dt.date
    for day in sorted(days.unique()):
        path = folder / "validated" / "events" / f"day={day}" / "part-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(typed["events"].filter(pa.array((days == day).to_numpy())), path)
    for name in ("users", "items"):
        pq.write_table(typed[name], folder / "validated" / f"{name}.parquet")
    world.write_params(folder, aggregate__windows=[1, 3], **params)
    return folder


def run(folder: Path, engine: dict[str, Any]) -> Path:
    """Run aggregate and join on the data in `folder`; returns the folder of what they wrote."""
    out, validated = Path(engine["name"]), Path("validated")
    with contextlib.chdir(folder):
        world.write_engine(folder, engine)
        aggregate(schema=Path("schema.json"), validated=validated, out=out / "features")
        join(schema=Path("schema.json"), validated=validated, features=out / "features", out=out / "training")
    return folder / out


def run_encode(folder: Path, engine: dict[str, Any], training: Path) -> Path:
    """Run encode on a training set in `folder`; returns the folder of what it wrote."""
    out = Path(engine["name"])
    with contextlib.chdir(folder):
        world.write_engine(folder, engine)
        views = Path("duckdb/features/views.json")
        paths = {"training": training, "encoder": out / "encoder.parquet", "out": out / "tensors"}
        encode(schema=Path("schema.json"), views=views, **paths)
    return folder / out


def run_summarize(folder: Path, engine: dict[str, Any], training: Path) -> bytes:
    """Run summarize on a training set in `folder`, with the encoder fitted by DuckDB; returns what it wrote."""
    with contextlib.chdir(folder):
        world.write_engine(folder, DUCKDB)
        views = Path("duckdb/features/views.json")
        columns = inputs(read_schema(Path("schema.json")), read_views(views))
        fit_encoder(read_schema(Path("schema.json")), columns, training / "train.parquet", 2).write(Path("fitted"))
        world.write_engine(folder, engine)
        summarize(schema=Path("schema.json"), encoder=Path("fitted"), training=training, out=Path("reference.json"))
    return (folder / "reference.json").read_bytes()


def differences(first: Path, second: Path, files: list[str]) -> dict[str, list[str]]:
    """By file, the columns whose values or types differ; NaN equals NaN, and floats are compared to the bit."""
    differing = {}
    for file in files:
        one, other = (stored.read_table(folder / file) for folder in (first, second))
        types = [[(field.name, field.type) for field in table.schema] for table in (one, other)]
        assert types[0] == types[1], file
        columns = [name for name in one.column_names if not _same(one[name], other[name])]
        differing |= {file: columns} if columns or one.num_rows != other.num_rows else {}
    return differing


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    return repr(one.to_pylist()) == repr(other.to_pylist())


def simulated(settings: Any) -> tuple[Schema, dict[str, pd.DataFrame]]:
    """Schema and tables of the embedded simulation."""
    log = simulation.read(settings)
    events = pd.concat(log.chunks(), ignore_index=True).sort_values(log.schema.timestamp, ignore_index=True)
    return log.schema, {
        "events": events.assign(event_id=np.arange(len(events))),
        "users": log.users,
        "items": log.items,
    }


def environment() -> dict[str, str]:
    """The environment of a stage that runs in another folder than the project's."""
    return os.environ | {"PYTHONPATH": str(ROOT)}
