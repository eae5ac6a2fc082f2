"""Spark as engine: the portable statements, translated, on as many machines as the master has.

It needs the extra `spark` and Java 17. The session's time zone is UTC, and that is asserted: Spark reads a timestamp
without a zone in the zone of its session, so in another one features of the future would be joined, without an error.
"""

import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from common import params
from common.errors import EngineError
from common.paths import ROOT
from common.settings import read_settings
from common.stored_files import add_to_manifest, files_of
from features.engine.blocks import blocks
from features.engine.portable_sql import to_spark
from features.engine.protocol import Group, MapBatches, Row

try:
    from pyspark import StorageLevel
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema
except ImportError as missing:
    raise EngineError(
        "engine.name in params.yaml is spark, but pyspark is not installed here. Install the extra, "
        "`pip install --constraint constraints.txt --editable '.[spark]'` (or `make spark`), and Java 17; or set "
        "engine.name to duckdb"
    ) from missing

ZONE = "spark.sql.session.timeZone"
_FIXED = {  # without which Spark computes other values than DuckDB
    ZONE: "UTC",
    "spark.sql.ansi.enabled": "true",  # an overflow is an error
    "spark.sql.caseSensitive": "true",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
}
_EPOCH = "select unix_micros(timestamp_ltz '1970-01-01 00:00:00')"  # 0 in UTC
_FILE_ROWS = 122_880  # of a row group, as DuckDB has them
_GROUP = "__group"
_FILE = "file://"
_PART = re.compile(r"part-(\d+)-")


class SparkEngine:
    """A Spark session; results lie under `scratch` until they are gathered, so executors have to see that folder."""

    def __init__(self, session: SparkSession, scratch: Path, storage: str | None) -> None:
        self._session, self._scratch, self._storage = session, scratch, storage
        self._kept: dict[str, DataFrame] = {}

    def read(self, name: str, path: Path, pattern: str | None = None) -> None:
        """See Engine."""
        files = [Path(file) for file in files_of(path)] if pattern is None else sorted(path.glob(pattern))
        self.frame(files).createOrReplaceTempView(name)

    def frame(self, files: list[Path]) -> DataFrame:
        """The rows of Parquet files as a data frame; names of folders give no columns."""
        reader = self._session.read.option("recursiveFileLookup", "true")
        return reader.parquet(*(_as_pattern(file) for file in files))

    def table(self, name: str, rows: pa.Table) -> None:
        """See Engine."""
        self._session.createDataFrame(rows).createOrReplaceTempView(name)

    def define(self, name: str, query: str) -> None:
        """See Engine."""
        self.query(query).createOrReplaceTempView(name)

    def keep(self, name: str, query: str) -> None:
        """See Engine; executors hold the rows in memory and on their disks."""
        if name in self._kept:
            self._kept.pop(name).unpersist()
        self._kept[name] = self.query(query).persist(StorageLevel.MEMORY_AND_DISK)
        self._kept[name].createOrReplaceTempView(name)

    def rows(self, query: str) -> list[Row]:
        """See Engine."""
        return [tuple(row) for row in self.query(query).collect()]

    def write(self, query: str, types: pa.Schema, out: Path) -> int:
        """See Engine; where there is a storage, the rows lie there, and `out` is in the manifest of its folder."""
        if self._storage is not None:
            url = f"{self._storage}/{uuid.uuid4()}/{out.name}"
            self.query(query).write.parquet(url)
            return add_to_manifest(out, _parts(url))
        rows = 0
        with pq.ParquetWriter(out, types) as file:
            for block in blocks(self.batches(query), _FILE_ROWS):
                file.write_table(block.cast(types))
                rows += block.num_rows
        return rows

    def mapped(self, query: str, function: MapBatches, types: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See Engine; the function runs in Python processes of the executors, which have this project."""
        result = self.query(query).mapInArrow(function, from_arrow_schema(types))
        return self.gathered(result.orderBy(quoted(types.names[0])))

    def write_groups(self, query: str, group_of: Group, types: pa.Schema, outs: list[Path], *, order: str) -> list[int]:
        """See StoringEngine."""
        columns = from_arrow_schema(types.append(pa.field(_GROUP, pa.int32())))
        grouped = self.query(query).mapInArrow(partial(_with_group, group_of, types), columns)
        url = f"{self._storage}/{uuid.uuid4()}/{outs[0].parent.name}"
        grouped.orderBy(_GROUP, quoted(order)).write.partitionBy(_GROUP).parquet(url)
        folders = [f"{url}/{_GROUP}={index}" for index in range(len(outs))]
        groups = [_parts(folder) or [_write_empty(folder, types)] for folder in folders]
        return [add_to_manifest(out, group) for out, group in zip(outs, groups, strict=True)]

    def query(self, statement: str) -> DataFrame:
        """The result of a portable statement as a data frame."""
        return self._session.sql(to_spark(statement))

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of an ordered query in their order."""
        return self.gathered(self.query(query))

    def gathered(self, frame: DataFrame) -> Iterator[pa.RecordBatch]:
        """The rows of an ordered data frame in their order, by way of files that the executors write at once."""
        parts = self._scratch / "parts"
        frame.write.parquet(_as_path(parts), mode="overwrite")
        for url in _parts(_as_path(parts)):
            yield from pq.ParquetFile(url.removeprefix(_FILE)).iter_batches()
        rmtree(parts)

    def close(self) -> None:
        """Free what was kept."""
        for frame in self._kept.values():
            frame.unpersist()
        rmtree(self._scratch, ignore_errors=True)


def _with_group(group_of: Group, types: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches with the index of the group of each row."""
    for batch in batches:
        table = pa.Table.from_batches([batch]).cast(types)
        groups = pa.array(group_of(table), pa.int32())
        yield from table.append_column(_GROUP, groups).combine_chunks().to_batches()


@contextmanager
def open_spark(settings: params.Engine, scratch: Path) -> Iterator[SparkEngine]:
    """The engine on a session of its own, or on the one that this process has already, which stays open.

    Raises EngineError where Spark cannot be started, or its session's time zone is not UTC.
    """
    _check_fixed(settings.conf)
    own = SparkSession.getActiveSession() is None
    session = _start(settings, scratch.absolute())
    try:
        _check_zone(session)
        engine = SparkEngine(session, scratch.absolute(), settings.storage)
        yield engine
        engine.close()
    finally:
        if own:
            session.stop()


def _start(settings: params.Engine, scratch: Path) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or executors take the `python3` of their PATH
    builder: Any = SparkSession.builder
    for name, value in (_defaults(settings.master, scratch) | settings.conf | _FIXED).items():
        builder = builder.config(name, value)
    try:
        session: SparkSession = builder.master(settings.master).getOrCreate()
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise EngineError(
            f"Spark cannot be started with engine.master {settings.master!r}: {reason[:1000]}. It needs Java 17 or "
            "newer (Debian: openjdk-17-jre-headless) and a master that answers"
        ) from error
    return session


def _defaults(master: str, scratch: Path) -> dict[str, Any]:
    """What conf may replace; the driver has the memory that DuckDB has."""
    local = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return (local if master.startswith("local") else {}) | {
        "spark.app.name": "hinet-pipeline",
        "spark.driver.memory": f"{read_settings().memory_bytes // 2**20}m",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.local.dir": str(scratch),
        "spark.log.level": "ERROR",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _check_fixed(conf: dict[str, str | bool | int | float]) -> None:
    for name, value in _FIXED.items():
        if name in conf and str(conf[name]).lower() != value.lower():
            raise EngineError(
                f"engine.conf in params.yaml sets {name} to {conf[name]!r}, but it has to be {value}: otherwise Spark "
                "computes other values than DuckDB, in another time zone with features of the future. Leave it out"
            )


def _check_zone(session: SparkSession) -> None:
    """Raises EngineError where the session is not in UTC, whoever set its zone."""
    ((micros,),) = session.sql(_EPOCH).collect()
    if micros:
        raise EngineError(
            f"the session of Spark is in the time zone {session.conf.get(ZONE)}, {-micros / 3.6e9:+g} hours of UTC: "
            f"features of the future would be joined. Set {ZONE} to UTC where the session is made"
        )


def quoted(name: str) -> str:
    """A column name as data frames take it: a dot is a letter."""
    return "`" + name.replace("`", "``") + "`"


def _as_pattern(path: Path) -> str:
    """The pattern that only this path matches: Spark takes what it reads for a pattern."""
    return re.sub(r"([*?\[\]{}\\,])", r"\\\1", _as_path(path))


def _as_path(path: Path) -> str:
    return f"{_FILE}{path.absolute().as_posix()}"


def _write_empty(url: str, types: pa.Schema) -> str:
    """Write a file without rows under a URL, for a group that has none; returns its URL."""
    name = f"{url}/part-00000-empty.parquet"
    with fsspec.open(name, "wb", auto_mkdir=True) as file:
        pq.write_table(types.empty_table(), file)
    return name


def _parts(url: str) -> list[str]:
    """The files that executors wrote under a URL, in the order of their rows."""
    storage, path = fsspec.url_to_fs(url)
    if not storage.exists(path):  # of a group without rows
        return []
    numbers = {name: _PART.match(name.rsplit("/", 1)[-1]) for name in storage.ls(path, detail=False)}
    parts = sorted((int(match[1]), name) for name, match in numbers.items() if match)
    return [storage.unstrip_protocol(name) for _, name in parts]
