"""The stages on Spark: equal to those on DuckDB, in UTC or not at all."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import s3fs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common import stored_files as stored
from common.errors import EngineError
from common.files import sha256_of
from common.params import Engine
from features.encoding.encoder import Encoder
from features.encoding.mapped_tensors import encoded_rows
from features.encoding.tensors import Tensors, open_tensors, write_tensors
from features.engine.engines import open_engine
from features.engine.protocol import StoringEngine
from features.inspect_online import inspect_online
from features.inspect_training import inspect_training
from features.materialize import materialize
from features.schema import SPLITS
from tests.support import named_world, simulation_log, spark, world
from tests.support.dvc_project import S3_KEYS, free_port, s3_server
from tests.support.examples import examples
from tests.support.stages import no_data_docs

pytestmark = [pytest.mark.integration, spark.needs_spark]
ZONE = "spark.sql.session.timeZone"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on this machine, with its address and keys in the environment; its URL."""
    with pytest.MonkeyPatch.context() as patch, s3_server(free_port()) as address:
        for name, value in {**S3_KEYS, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        yield "s3://hinet"
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, bucket: str) -> Iterator[Any]:
    """The session of all tests of this file, whose executors have the environment of `bucket`."""
    assert bucket
    with spark.spark_session(tmp_path_factory.mktemp("spark")) as opened:
        yield opened


@pytest.mark.usefixtures("session")
@settings(
    max_examples=examples(4), deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)  # an example takes seconds: none is made smaller
@given(seed=st.integers(0, 10_000), rows=st.integers(60, 300), how=st.sampled_from(["time", "random"]))
def test_every_output_equals_that_of_duckdb(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, how: str
) -> None:
    """Whatever the log, features and training set are the same rows: integers, texts, timestamps, floats to the bit."""
    tables = spark.numbers_tables(rows=rows, seed=seed)
    folder = spark.write_world(tmp_path_factory.mktemp("world"), spark.numbers_schema(), tables, join__split=how)
    assert_equal(folder)


@pytest.mark.usefixtures("session")
def test_names_and_folders_may_be_any(tmp_path: Path) -> None:
    """Columns called as words of SQL, with quotes or dots, in a folder with the letters of patterns."""
    names = named_world.other_names(
        user_id="`id`", item_id="select", city='"hi"', price="a.b", tags="it's", click="x{y}", hour=" "
    )
    tables = names.tables(world.tables(rows=80, users=5, items=4, days=4))
    assert_equal(spark.write_world(tmp_path / 'a b{x,y}[z]* "ü" #%41', names.schema(), tables))


def test_ten_thousand_impressions_are_equal(tmp_path: Path, session: Any) -> None:
    """The simulated platform, with session features, on a session that compiles its queries as those of users do."""
    size = {"impressions": 10_000, "users": 300, "items": 100, "days": 14}
    log = spark.simulated(simulation_log.dataset(**size))
    folder = spark.write_world(tmp_path, *log, aggregate__session={"events": 5})
    with spark.compiled(session):
        assert_equal(folder, "features/session.parquet")


@pytest.mark.usefixtures("session")
def test_encoder_and_tensors_are_those_of_duckdb(tmp_path: Path) -> None:
    """Vocabularies are equal, means and deviations to 12 digits; of one encoder, every tensor is equal to the bit."""
    tables = spark.numbers_tables(rows=400, seed=2)
    hashed = {"encode__hash_buckets": {"user_id": 4}, "encode__maximum_values": {"item_id": 5}}
    folder = spark.write_world(tmp_path, spark.numbers_schema(), tables, **hashed)
    training = spark.run(folder, spark.DUCKDB) / "training"
    one, other = (spark.run_encode(folder, engine, training) for engine in (spark.DUCKDB, spark.SPARK))
    expected, actual = (Encoder.read(out / "encoder.parquet") for out in (one, other))
    assert actual.vocabularies == expected.vocabularies
    assert sum(map(len, expected.vocabularies.values())) > 30
    assert actual.capped == expected.capped == ("item_id",)
    for name in ("scales", "vector_scales", "targets"):
        numbers = [np.array(list(getattr(encoder, name).values()), object) for encoder in (actual, expected)]
        assert len(numbers[0]), name
        first, second = (np.array(pd.Series(part.ravel()).explode().dropna(), float) for part in numbers)
        np.testing.assert_allclose(first, second, rtol=1e-12)
    for split in SPLITS:
        assert_close(open_tensors(other / "tensors" / split), open_tensors(one / "tensors" / split))
    schema, rows = spark.numbers_schema(), training / "train.parquet"
    with open_engine(Engine.model_validate(spark.SPARK), tmp_path / "spill") as engine:
        encoded = encoded_rows(engine, expected, schema, rows)
        write_tensors(expected, schema, rows, tmp_path / "train", encoded)
    for file in (one / "tensors" / "train").iterdir():
        assert file.read_bytes() == (tmp_path / "train" / file.name).read_bytes(), file.name


@pytest.mark.usefixtures("session")
def test_rows_may_lie_in_a_bucket(tmp_path: Path, bucket: str) -> None:
    """With a storage the workspace has manifests; every later stage reads the rows, and sees an exchanged object."""
    folder = spark.write_world(tmp_path / "world", world.schema(), world.tables(rows=300), join__split="random")
    expected = spark.run(folder, spark.DUCKDB)
    engine = {**spark.SPARK, "storage": f"{bucket.replace('s3:', 's3a:')}/a [b]*"}
    actual = spark.run(folder, engine)
    assert spark.differences(expected, actual, spark.AGGREGATED + spark.JOINED) == {}
    files = sorted(str(path.relative_to(actual)) for path in actual.rglob("*") if path.is_file())
    assert files == ["features/manifest.json", "features/views.json", "training/manifest.json"]
    reports = {out: read_by_duckdb(folder, out) for out in (expected, actual)}
    assert reports[actual] == reports[expected]
    references = [spark.run_summarize(folder, spark.DUCKDB, out / "training") for out in (expected, actual)]
    assert references[0] == references[1]
    one = spark.run_encode(folder, spark.DUCKDB, expected / "training")
    other = spark.run_encode(folder, engine, actual / "training")
    for split in SPLITS:
        assert_close(open_tensors(other / "tensors" / split), open_tensors(one / "tensors" / split))
    exchanged = stored.files_of(actual / "training" / "train.parquet")[0]
    assert exchanged.startswith("s3://hinet/a [b]*/")
    fsspec.filesystem("s3").put_file(str(expected / "training" / "valid.parquet"), exchanged)
    stored._check.cache_clear()  # as in another process
    with pytest.raises(EngineError, match=r"part-.*is not the file that .*training/manifest\.json is of: expected"):
        spark.run_encode(folder, spark.DUCKDB, actual / "training")


@pytest.mark.usefixtures("session")
def test_rows_may_lie_on_a_shared_disk(tmp_path: Path) -> None:
    """Each task writes a file for each group; a group without rows has one, too; the rows come back in order."""
    storage = tmp_path / "disk [a]*"
    rows = pa.table({"n": pa.array(range(1000, 0, -1)), "text": ["a"] * 1000})
    outs = [tmp_path / "data" / f"{name}.parquet" for name in ("even", "odd", "none")]
    settings = Engine.model_validate({**spark.SPARK, "storage": f"file://{storage}"})
    with open_engine(settings, tmp_path / "spill") as engine:
        assert isinstance(engine, StoringEngine)
        engine.table("numbers", rows)
        counts = engine.write_groups("select * from numbers", parity, rows.schema, outs, order="n")
        assert engine.write("select * from numbers order by n", rows.schema, tmp_path / "data" / "all.parquet") == 1000
        engine.read("read", outs[1], columns=["n"])
        assert engine.rows("select count(*), sum(n) from read") == [(500, 250_000)]
    assert counts == [500, 500, 0]
    assert stored.read_table(outs[0])["n"].to_pylist() == list(range(2, 1001, 2))
    assert stored.read_table(tmp_path / "data" / "all.parquet").equals(rows.sort_by("n"))
    assert stored.read_table(outs[2]).schema == rows.schema
    (one, *_) = stored.files_of(outs[0])
    assert Path(one).is_relative_to(storage)
    assert stored.checksums(outs[0])[0] == sha256_of(Path(one))


def parity(rows: pa.Table) -> Any:
    """The group of each row: 0 for an even number, 1 for an odd one."""
    return rows["n"].to_numpy() % 2


def test_a_bucket_out_of_reach_is_named(tmp_path: Path, bucket: str) -> None:
    """A bucket that is not there stops the stage before it computes, with what is needed."""
    settings = Engine.model_validate({**spark.SPARK, "storage": f"{bucket}-other/x"})
    with pytest.raises(EngineError, match=r"s3://hinet-other/x cannot be read: .*AWS_ENDPOINT_URL"):  # noqa: SIM117
        with open_engine(settings, tmp_path / "spill"):
            pass


def read_by_duckdb(folder: Path, out: Path) -> list[str]:
    """What the stages on DuckDB make of features and training set in `out`: their reports, as text."""
    world.write_engine(folder, spark.DUCKDB)
    paths = {"schema": Path("schema.json"), "features": out / "features"}
    training = {"validated": Path("validated"), "training": out / "training"}
    with contextlib.chdir(folder), no_data_docs():
        inspect_training(**paths, **training, report=out / "report.json", docs=out / "docs")
        materialize(**paths, online=out / "online.db")
        inspect_online(**paths, online=out / "online.db", report=out / "online.json", docs=out / "docs")
    return [(out / name).read_text() for name in ("report.json", "online.json")]


def assert_close(actual: Tensors, expected: Tensors) -> None:
    """All arrays are equal but the scaled numbers, which may differ in their last bit."""
    for name, values in vars(expected).items():
        if values is not None:
            compare = np.testing.assert_allclose if name == "numeric" else np.testing.assert_array_equal
            compare(getattr(actual, name), values, **({"rtol": 1e-6, "atol": 1e-7} if name == "numeric" else {}))


def assert_equal(folder: Path, *more: str) -> None:
    """The stages in `folder` write the same rows on both engines, and leave nothing else."""
    expected, actual = spark.run(folder, spark.DUCKDB), spark.run(folder, spark.SPARK)
    assert spark.differences(expected, actual, [*spark.AGGREGATED, *spark.JOINED, *more]) == {}
    files = [sorted(path.relative_to(out) for path in out.rglob("*")) for out in (expected, actual)]
    assert files[0] == files[1]


def test_a_session_in_another_zone_is_refused(tmp_path: Path, session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that somebody made in another zone stops the stage before it writes a row."""
    folder = spark.write_world(tmp_path, world.schema(), world.tables(rows=50))
    session.conf.set(ZONE, "Asia/Shanghai")
    monkeypatch.setattr("features.engine.spark._FIXED", {})  # which would set the zone of the session
    with pytest.raises(EngineError, match=r"Asia/Shanghai, \+8 hours of UTC"):
        spark.run(folder, spark.SPARK)
    session.conf.set(ZONE, "UTC")
    assert not (folder / "spark" / "features").exists()


def test_another_zone_in_params_is_refused(tmp_path: Path) -> None:
    """engine.conf may not name another zone: the error says what it has to be."""
    folder = spark.write_world(tmp_path, world.schema(), world.tables(rows=50))
    with pytest.raises(EngineError, match="timeZone to 'Asia/Shanghai', but it has to be UTC"):
        spark.run(folder, {**spark.SPARK, "conf": {**spark.CONF, ZONE: "Asia/Shanghai"}})
    assert not (folder / "spark" / "features").exists()


def test_a_master_that_is_none_is_named(tmp_path: Path) -> None:
    """A master that Spark cannot parse stops the stage with its name, and what is needed."""
    folder = spark.write_world(tmp_path, world.schema(), world.tables(rows=50))
    world.write_engine(folder, {**spark.SPARK, "master": "cluster"})
    command = ["-m", "features.aggregate", "--schema", "schema.json", "--validated", "validated", "--out", "features"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=spark.environment(),
    )
    assert done.returncode == 1
    assert "Spark cannot be started with engine.master 'cluster'" in done.stderr
    assert "Java 17" in done.stderr
    assert "Traceback" not in done.stderr.split("features.aggregate stopped")[1]
