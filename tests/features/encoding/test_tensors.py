"""features/encoding/tensors.py: the files of encoded rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.tensors import Arrays, encode_rows, open_tensors, write_tensors
from features.schema import inputs
from tests.support import world

pytestmark = pytest.mark.integration
BATCH = 30


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """200 events in a Parquet file."""
    pq.write_table(pa.Table.from_pandas(world.tables(rows=200)["events"], preserve_index=False), tmp_path / "rows")
    return tmp_path / "rows"


def batches(encoder: Encoder, rows: Path, out: Path) -> Iterator[Arrays]:
    """The encoded rows, batch by batch; no file in `out` is mapped into memory while they are taken."""
    for batch in pq.ParquetFile(rows).iter_batches(BATCH):
        yield encode_rows(encoder, world.schema(), pa.Table.from_batches([batch]))
        assert str(out) not in Path("/proc/self/maps").read_text()


def test_what_is_written_does_not_stay_in_memory(rows: Path, tmp_path: Path) -> None:
    """Batches are appended to the files, which then hold the rows as if they had been encoded at once."""
    schema = world.schema()
    encoder = fit_encoder(schema, inputs(schema, ()), rows, 1)
    out = tmp_path / "tensors"
    write_tensors(encoder, schema, rows, out, batches(encoder, rows, out))
    written = vars(open_tensors(out))
    for name, values in encode_rows(encoder, schema, pq.read_table(rows)).items():
        np.testing.assert_array_equal(written[name], values)
