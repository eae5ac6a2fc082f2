"""The limit of every metric: that of the true probabilities, which the embedded simulation writes."""

from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from common.errors import JoinError
from features.encoding.tensors import Tensors
from features.schema import Schema


def true_probabilities(truth: Path, rows: Tensors, schema: Schema) -> NDArray[np.float64] | None:
    """The true probabilities [N, O] of the rows, or None where the truth is not known.

    Raises JoinError when the truth lacks some of the rows.
    """
    known = ds.dataset(truth, format="parquet")
    columns = [f"p_{name}" for name in schema.output_names]
    if not set(columns) <= set(known.schema.names):
        return None
    wanted = np.asarray(rows.event_id)
    table = known.to_table(columns=["event_id", *columns]).sort_by("event_id")
    ids = table["event_id"].to_numpy()
    index = np.searchsorted(ids, wanted)
    missing = int((np.append(ids, -1)[index] != wanted).sum())
    if missing:
        raise JoinError(
            f"{truth}: no true probability for {missing} of {len(wanted)} test rows; "
            "it is of another log than the tensors: run `dvc repro`"
        )
    return np.stack([table[column].to_numpy()[index] for column in columns], axis=1)
