"""Spark as engine: the portable statements, translated, on as many machines as the master has.

It needs the extra `spark` and Java 17. The session's time zone is UTC, and that is asserted: Spark reads a timestamp
without a zone in the zone of its session, so in another one features of the future would be joined, without an error.
"""

import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common import params
from common.errors import EngineError
from common.paths import ROOT
from common.settings import read_settings
from common.stored_files import StoredFile, add_to_manifest, check_storage, files_of, is_url, schema_of, write_file
from features.engine.blocks import blocks
from features.engine.portable_sql import to_spark
from features.engine.protocol import Group, MapBatches, Row

try:
    from pyspark import StorageLevel
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema

    from features.engine.stored_parts import FILE_ROWS, GROUP, WRITTEN, read_parts, write_parts
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
_FILE = "file://"
_PART = re.compile(r"part-(\d+)-")  # what Spark calls the files that it writes


class SparkEngine:
    """A Spark session; results lie under `scratch` until they are gathered, so executors have to see that folder."""

    def __init__(self, session: SparkSession, scratch: Path, storage: str | None) -> None:
        self._session, self._scratch, self._storage = session, scratch, storage
        self._kept: dict[str | tuple[str, ...], DataFrame] = {}

    def read(self, name: str, path: Path, pattern: str | None = None, columns: Sequence[str] = ()) -> None:
        """See Engine; names of folders give no columns."""
        files = files_of(path) if pattern is None else list(map(str, sorted(path.glob(pattern))))
        if files and is_url(files[0]):
            frame = self._of_bucket(files, columns)
        else:
            reader = self._session.read.option("recursiveFileLookup", "true")
            frame = reader.parquet(*map(_as_pattern, files)).select(*(map(quoted, columns) if columns else "*"))
        frame.createOrReplaceTempView(name)

    def _of_bucket(self, files: list[str], columns: Sequence[str]) -> DataFrame:
        """The rows of files in a bucket: a task reads one, once, and executors keep them by column."""
        key = (*files, *columns)
        if key not in self._kept:
            types = schema_of(files[0])
            types = pa.schema([types.field(name) for name in columns or types.names])
            names = self._session.sparkContext.parallelize([(file,) for file in files], len(files)).toDF("file string")
            rows = names.mapInArrow(partial(read_parts, types.names), from_arrow_schema(types))
            self._kept[key] = rows.persist(StorageLevel.MEMORY_AND_DISK)
        return self._kept[key]

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
            (stored,) = self._store(self.query(query).selectExpr("*", f"0 as {GROUP}"), types, [out])
            return stored
        rows = 0
        with pq.ParquetWriter(out, types) as file:
            for block in blocks(self.batches(query), FILE_ROWS):
                file.write_table(block.cast(types))
                rows += block.num_rows
        return rows

    def mapped(self, query: str, function: MapBatches, types: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See Engine; the function runs in Python processes of the executors, which have this project."""
        result = self.query(query).mapInArrow(function, from_arrow_schema(types))
        return self.gathered(result.orderBy(quoted(types.names[0])))

    def write_groups(self, query: str, group_of: Group, types: pa.Schema, outs: list[Path], *, order: str) -> list[int]:
        """See StoringEngine."""
        columns = from_arrow_schema(types.append(pa.field(GROUP, pa.int32())))
        grouped = self.query(query).mapInArrow(partial(_with_group, group_of, types), columns)
        return self._store(grouped.orderBy(GROUP, quoted(order)), types, outs)

    def _store(self, frame: DataFrame, types: pa.Schema, outs: list[Path]) -> list[int]:
        """Write the rows of a data frame, ordered by GROUP, to the storage; returns the number of rows of each file."""
        run = uuid.uuid4()
        urls = [f"{self._storage}/{run}/{out.name}" for out in outs]
        rows = frame.mapInArrow(partial(write_parts, urls, types), from_arrow_schema(WRITTEN)).collect()
        counts = []
        for group, (url, out) in enumerate(zip(urls, outs, strict=True)):
            files = sorted(StoredFile(*written) for of, *written in rows if of == group)
            empty = types.empty_table()
            counts.append(add_to_manifest(out, files or [write_file(f"{url}/part-empty.parquet", types, [empty])]))
        return counts

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
        for part in sorted(parts.glob("part-*.parquet"), key=_number_of):
            yield from pq.ParquetFile(part).iter_batches()
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
        yield from table.append_column(GROUP, groups).combine_chunks().to_batches()


@contextmanager
def open_spark(settings: params.Engine, scratch: Path) -> Iterator[SparkEngine]:
    """The engine on a session of its own, or on the one that this process has already, which stays open.

    Raises EngineError where Spark cannot be started, or its session's time zone is not UTC.
    """
    _check_fixed(settings.conf)
    storage = settings.storage and settings.storage.replace("s3a://", "s3://", 1)
    check_storage(storage or "")
    own = SparkSession.getActiveSession() is None
    session = _start(settings, scratch.absolute())
    try:
        _check_zone(session)
        engine = SparkEngine(session, scratch.absolute(), storage)
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


def _as_pattern(path: str) -> str:
    """The pattern that only this path matches: Spark takes what it reads for a pattern."""
    return re.sub(r"([*?\[\]{}\\,])", r"\\\1", _as_path(Path(path)))


def _as_path(path: Path) -> str:
    return f"{_FILE}{path.absolute().as_posix()}"


def _number_of(part: Path) -> int:
    """The place of a file that Spark wrote, in the order of its rows."""
    number = _PART.match(part.name)
    assert number is not None
    return int(number[1])
