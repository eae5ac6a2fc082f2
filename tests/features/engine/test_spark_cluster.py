"""The data stages on a cluster of which a machine is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import simulation_log, spark, world
from tests.support.spark_cluster import Cluster, cluster, wait

pytestmark = [pytest.mark.process, pytest.mark.slow, spark.needs_spark]

VALIDATED, VIEWS = Path("validated"), Path("duckdb/features/views.json")


def test_a_lost_executor_changes_no_byte(tmp_path: Path) -> None:
    """An executor is killed (-9) in the middle of each stage: Spark computes its part again, the rows are DuckDB's."""
    schema, tables = spark.simulated(simulation_log.dataset(impressions=60_000))
    folder = spark.write_world(tmp_path / "world", schema, tables)
    expected = spark.run(folder, spark.DUCKDB)
    spark.run_encode(folder, spark.DUCKDB, expected / "training")
    with cluster(tmp_path) as machines:
        world.write_engine(folder, machines.engine)
        out = folder / "spark"
        views = [f"--{name}={value}" for name, value in {"schema": "schema.json", "validated": VALIDATED}.items()]
        run(folder, machines, out / ".features.partial/user.parquet", "aggregate", *views, "--out=spark/features")
        run(folder, machines, out / "training", "join", *views, "--features=spark/features", "--out=spark/training")
        paths = (f"--views={VIEWS}", "--training=spark/training", "--encoder=spark/encoder.parquet")
        run(folder, machines, out / ".tensors.partial", "encode", views[0], *paths, "--out=spark/tensors")
    assert spark.differences(expected, out, spark.AGGREGATED) == {}
    for file in (*spark.JOINED, *(f"tensors/train/{name}.npy" for name in ("categorical", "bags", "labels", "user"))):
        assert (out / file).read_bytes() == (expected / file).read_bytes(), file


def run(folder: Path, machines: Cluster, begun: Path, stage: str, *arguments: str) -> None:
    """Run a stage, and kill an executor when `begun` exists."""
    command = [sys.executable, "-m", f"features.{stage}", *arguments]
    log = folder / f"{stage}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=spark.environment(), stdout=output, stderr=output)
        wait(lambda: begun.exists() and len(machines.executors()) == 2, f"{begun} and two executors")
        killed = machines.kill_executor()
        assert process.poll() is None, log.read_text()
        assert process.wait(timeout=400) == 0, log.read_text()
    assert killed not in [one.pid for one in machines.executors()]
