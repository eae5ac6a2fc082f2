"""DVC and rows in a bucket: it decides by the manifest, and whoever reads the rows sees an exchanged object."""

import shutil
from pathlib import Path

import pytest

from common.paths import ROOT
from common.yaml_file import dump_yaml
from tests.support.dvc_project import S3_KEYS, free_port, s3_server, typed

pytestmark = pytest.mark.process

STORE = """
import pathlib, sys, uuid
import pyarrow as pa
from common import stored_files as stored
rows = pa.table({"n": range(int(pathlib.Path("rows").read_text()))})
file = stored.write_file(f"s3://hinet/{uuid.uuid4()}/x.parquet", rows.schema, [rows])
stored.add_to_manifest(pathlib.Path("data/x.parquet"), [file])
"""
COUNT = """
import pathlib
from common import stored_files as stored
with pathlib.Path("counts").open("w") as file:
    print(sum(stored.read_table(pathlib.Path("data/x.parquet"))["n"].to_pylist()), file=file)
"""
EXCHANGE = """
import json, pathlib
import pyarrow as pa
from common import stored_files as stored
(known,) = json.loads(pathlib.Path("data/manifest.json").read_text())["x.parquet"]
stored.write_file(known["url"], pa.schema([("n", pa.int64())]), [])
"""


def project(folder: Path) -> Path:
    """Two stages: `store` writes rows into the bucket, `count` reads them; returns the folder."""
    folder.mkdir()
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "*.local"))
    for name, code in {"store": STORE, "count": COUNT, "exchange": EXCHANGE}.items():
        (folder / f"{name}.py").write_text(code)
    stages = {
        "store": {"cmd": "mkdir -p data && python store.py", "deps": ["rows"], "outs": ["data"]},
        "count": {"cmd": "python count.py", "deps": ["data"], "outs": ["counts"]},
    }
    (folder / "dvc.yaml").write_text(dump_yaml({"stages": stages}))
    (folder / "rows").write_text("10")
    typed("git init --quiet", folder)
    return folder


def test_the_manifest_decides(tmp_path: Path) -> None:
    """New rows make the reader out of date, the same manifest does not; an exchanged object stops it with its name."""
    folder = project(tmp_path / "project")
    with s3_server(free_port()) as address:
        keys = {**S3_KEYS, "AWS_ENDPOINT_URL": address, "PYTHONPATH": str(ROOT)}
        typed("dvc repro", folder, **keys)
        assert (folder / "counts").read_text() == "45\n"
        assert [file.name for file in (folder / "data").iterdir()] == ["manifest.json"]
        (folder / "rows").write_text("11")
        assert "Running stage 'count'" in typed("dvc repro", folder, **keys)
        assert (folder / "counts").read_text() == "55\n"
        typed("python exchange.py", folder, **keys)
        assert "up to date" in typed("dvc status", folder, **keys)
        said = typed("! dvc repro --force --single-item count", folder, **keys)
        assert "x.parquet is not the file that data/manifest.json is of" in said
