"""The rows of each morning: of the joined rows of a log, those that are known then, encoded anew.

The features of a row are those as of its impression, so that the rows of a day are the same on every later morning.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.accuracy.protocols import STAGES, run_stage
from benchmarks.mornings.plan import merge
from common.errors import ParameterError
from common.files import replacing_folder
from common.params import load
from common.paths import PARAMS, ROOT, SCHEMA, TRAINING, VIEWS
from common.yaml_file import dump_yaml, read_yaml
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import fit_reference
from features.encoding.tensors import write_tensors
from features.schema import Schema, inputs_from, read_schema, read_views

Days = NDArray[np.datetime64]
ONE_DAY = datetime.timedelta(days=1)
ENCODER, REFERENCE, TENSORS, ROWS = "encoder.parquet", "reference.json", "tensors", "training"  # of a morning


def prepare_log(changes: Mapping[str, Any], path: Path | None, folder: Path) -> None:
    """Write params.yaml with the changes to `folder`, and run the stages up to the joined rows there.

    `path` is the folder that holds the official archive.
    """
    here: dict[str, Any] = {} if path is None else {"dataset": {"path": str(path.resolve())}}
    plain = merge(merge(read_yaml(ROOT / PARAMS), {"join": {"split": "time"}}), merge(changes, here))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PARAMS).write_text(dump_yaml(plain), encoding="utf-8")
    for stage in STAGES[:-1]:  # each morning has an encoder of its own
        run_stage(stage, folder)


def mornings(run: Path, first: int, last: int | None, every: int) -> list[datetime.date]:
    """The days of the joined rows under `run` from number `first` to `last`, counted from 1, in steps of `every` days.

    Raises ParameterError where there are fewer than two.
    """
    schema = read_schema(run / SCHEMA)
    days = np.unique(_days(_table(run, [schema.timestamp]), schema))
    chosen: list[datetime.date] = days[first - 1 : last : every].tolist()
    if first < 4 or len(chosen) < 2:
        raise ParameterError(
            f"--first {first} --last {last} --every {every}: the log has {len(days)} days; expected two mornings "
            "or more, the first of them from the fourth day on"
        )
    return chosen


def write_morning(run: Path, day: datetime.date, out: Path) -> None:
    """Write the rows of the morning of `day` to the folder `out`, with encoder, reference and tensors.

    The training rows are those of the days up to two days before, the validation rows those of the day before, the
    test rows those of the day, each ordered by time. Vocabularies and scales are fitted on the training rows.
    """
    schema, views = read_schema(run / SCHEMA), read_views(run / VIEWS)
    encode = load(run / PARAMS).encode
    with replacing_folder(out) as partial:
        _write_rows(_table(run), schema, day, partial / ROWS)
        train = partial / ROWS / "train.parquet"
        columns = inputs_from(schema, views, encode.sources)
        encoder = fit_encoder(schema, columns, train, encode.minimum_count, **encode.tables)
        encoder.write(partial / ENCODER)
        fit_reference(train, schema, encoder).write(partial / REFERENCE)
        for name in ("train", "valid"):
            write_tensors(encoder, schema, partial / ROWS / f"{name}.parquet", partial / TENSORS / name)


def _write_rows(table: pa.Table, schema: Schema, day: datetime.date, out: Path) -> None:
    """Write train.parquet, valid.parquet and test.parquet of a morning."""
    ordered = table.sort_by([(schema.timestamp, "ascending"), (schema.event_id, "ascending")])
    days, yesterday = _days(ordered, schema), np.datetime64(day - ONE_DAY)
    out.mkdir(parents=True)
    for name, chosen in (("train", days < yesterday), ("valid", days == yesterday), ("test", days == day)):
        pq.write_table(ordered.filter(pa.array(chosen)), out / f"{name}.parquet")


def _table(run: Path, columns: list[str] | None = None) -> pa.Table:
    """The joined rows of all splits."""
    files = sorted((run / TRAINING).glob("*.parquet"))
    return ds.dataset(files).to_table(columns=columns)


def _days(table: pa.Table, schema: Schema) -> Days:
    """The day (UTC) of each row [N]."""
    days: Days = table[schema.timestamp].to_numpy().astype("datetime64[D]")
    return days
