"""The whole pipeline on a Spark cluster with its rows in a bucket: every stage, and the model that it serves."""

import subprocess
import time
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from common.stored_files import MANIFEST
from common.yaml_file import dump_yaml, read_yaml
from tests.support import spark
from tests.support.dvc_project import S3_KEYS, free_port, s3_server
from tests.support.project_clone import REPRO, clone, environment
from tests.support.service_process import bentoml_serve, complete_answer, wait_until_ready
from tests.support.spark_cluster import Cluster, cluster

pytestmark = [pytest.mark.process, pytest.mark.slow, spark.needs_spark, pytest.mark.timeout(3600)]


def project(folder: Path, machines: Cluster) -> Path:
    """A clone with a small simulation whose data stages run on the cluster; returns it."""
    clone(folder)
    plain = {name: spark.CONF[name] for name in spark.CODEGEN}  # hundreds of statements on few rows
    engine = {**machines.engine, "storage": "s3://hinet/rows", "conf": {**machines.engine["conf"], **plain}}
    changed = read_yaml(folder / "params.yaml") | {"engine": engine}
    (folder / "params.yaml").write_text(dump_yaml(changed))
    return folder


def test_every_stage_runs_and_its_bento_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc repro` with a master, two workers and a bucket: all stages, no rows in the workspace; the bento ranks."""
    with s3_server(free_port()) as address:
        for name, value in {**S3_KEYS, "AWS_ENDPOINT_URL": address}.items():
            monkeypatch.setenv(name, value)
        with cluster(tmp_path) as machines:
            folder, started = project(tmp_path / "clone", machines), time.monotonic()
            done = subprocess.run(REPRO, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
            print(done.stdout, f"dvc repro: {time.monotonic() - started:.0f} s", sep="\n")  # pytest -s shows it
            again = subprocess.run(REPRO, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
        stages = read_yaml(folder / "dvc.yaml")["stages"]
        assert again.stdout.count("didn't change, skipping") == len(stages) + 2  # three models
        stored = [folder / "data" / name for name in ("features", "training")]
        assert [sorted(path.name for path in out.glob("*.parquet")) for out in stored] == [[], []]
        assert all((out / MANIFEST).exists() for out in stored)
        assert httpx.get(f"{address}/hinet?list-type=2").text.count("<Key>rows/") >= 6
    items = pq.read_table(folder / "artifacts" / "online.items.parquet")["item_id"].to_pylist()
    with bentoml_serve([folder / "artifacts" / "bento"], tmp_path, tmp_path / "home") as client:
        wait_until_ready(client)
        request = {"user_id": 1, "scenario": "search", "candidates": items[:20]}
        answer = complete_answer(client, request).raise_for_status().json()
    assert sorted(answer["item_ids"]) == sorted(items[:20])
    assert answer["degraded"] is None
    assert len(set(answer["scores"])) > 1
