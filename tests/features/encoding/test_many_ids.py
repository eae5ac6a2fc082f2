"""Ten million distinct ids: a cap and hash buckets bound the table, the memory and the vocabulary."""

import resource
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from common.paths import ROOT
from features.encoding.encoder import Encoder
from features.schema import SPLITS, to_json
from tests.support import world

pytestmark = [pytest.mark.process, pytest.mark.slow]

IDS, FREQUENT, BUCKETS = 10_000_000, 100_000, 50_000
COMMAND = (
    "features.encode --schema schema.json --views views.json --training training --encoder encoder.parquet "
    "--out tensors"
)


def write_rows(folder: Path) -> None:
    """A row for each item, in no order, and two more for each of the FREQUENT first; valid and test rows are new."""
    (folder / "training").mkdir()
    with duckdb.connect(config={"threads": 1}) as connection:
        for split, first, rows in zip(SPLITS, (0, IDS, IDS), (IDS + 2 * FREQUENT, 1000, 1000), strict=True):
            connection.execute(f"""
                copy (select row as event_id, timestamp '2026-01-05' as timestamp, row % 1000 as user_id,
                             {first} + (case when row < {IDS} then row * 7919 % {IDS} else row % {FREQUENT} end)
                             as item_id,
                             'feed' as scenario, row % 24 as hour, (row % 2)::tinyint as click, null::tinyint as order
                      from range({rows}) as numbers(row)) to '{folder}/training/{split}.parquet'""")


def test_ten_million_ids_are_encoded_in_bounded_memory(tmp_path: Path) -> None:
    """The table has the rows that the parameters allow, and the stage needs less than 2 GB."""
    (tmp_path / "schema.json").write_text(to_json(world.schema()))
    (tmp_path / "views.json").write_text("[]")
    world.write_params(
        tmp_path,
        encode__minimum_count=1,
        encode__maximum_values={"item_id": FREQUENT},
        encode__hash_buckets={"item_id": BUCKETS},
    )
    write_rows(tmp_path)
    command = [sys.executable, "-m", *COMMAND.split()]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    megabytes = int(done.stdout.split("peak memory ")[1].split()[0].replace(",", ""))
    print(f"{IDS:,} ids: {usage.ru_utime + usage.ru_stime:.0f} CPU seconds, {megabytes} MB at the peak")
    encoder = Encoder.read(tmp_path / "encoder.parquet")
    assert encoder.vocabularies["item_id"] == list(range(FREQUENT))
    assert encoder.layout.table_rows[list(encoder.vocabularies).index("item_id")] == 1 + FREQUENT + BUCKETS
    ids = np.load(tmp_path / "tensors/train/categorical.npy", mmap_mode="r")[:, 1]
    own = np.bincount(ids, minlength=1 + FREQUENT + BUCKETS)
    assert (own[0], own[1 : 1 + FREQUENT].tolist()) == (0, [3] * FREQUENT)
    shared = own[1 + FREQUENT :]
    assert 0.5 < shared.min() / shared.mean() < shared.max() / shared.mean() < 1.5  # 198 values a bucket, evenly
    assert megabytes < 2_000
