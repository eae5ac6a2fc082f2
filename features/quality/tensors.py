"""The quality gate of the tensors: the encoded train, valid and test against the Parquet files of the training set.

Every row of the training set is there, in its order; every id lies within its embedding table, every number is finite
and within the encoder's clipping limit, every label is one of its task, and few ids are unknown. The arrays are read
in blocks, memory-mapped.
"""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pyarrow as pa

from common.params import Inspect
from common.stored_files import read_batches, row_count
from features.encoding.encoder import LIMIT, PADDING, UNKNOWN, Encoder, Layout
from features.encoding.tensors import Tensors, open_tensors
from features.engine.connection import connect
from features.quality import gate
from features.quality.datadocs import QualityGate
from features.quality.gate import Measurements, SuiteResult
from features.quality.results import quiet_context
from features.quality.rule import Rule, expect, expect_equal, expect_zero
from features.quality.tensor_labels import BLOCK_ROWS, blocks, label_counts, weight_counts
from features.schema import SPLITS, Kind, Schema

GATE = QualityGate(
    name="tensors",
    title="Tensors",
    remedy="Run `dvc repro --force encode` again; if the fault persists, check features/encoding/encoder.py.",
)


def check_tensors(
    schema: Schema, encoder: Encoder, settings: Inspect, *, training: Path, tensors: Path
) -> list[SuiteResult]:
    """A suite per split. The values of a split are checked only where every array has its type and shape."""
    context, suites = quiet_context(), []
    for name in SPLITS:
        rows = training / f"{name}.parquet"
        outcomes = gate.evaluate(context, _arrays(schema, encoder.layout, tensors / name, _count(rows)))
        if all(outcome.success for outcome in outcomes):
            measurements = _measure(schema, encoder, settings, rows, open_tensors(tensors / name))
            outcomes += gate.evaluate(context, *measurements)
        suites.append(SuiteResult(name=name, rows=_count(rows), outcomes=outcomes))
    return suites


def _measure(
    schema: Schema, encoder: Encoder, settings: Inspect, rows: Path, tensors: Tensors
) -> Iterator[Measurements]:
    """The measurements of the values of one split: events, ids, numbers and labels; none of an empty split."""
    measurements = (
        _events(schema, rows, tensors),
        _ids(encoder, tensors, settings),
        _numbers(encoder, tensors),
        label_counts(schema, tensors),
        *weight_counts(tensors),
    )
    return (table for table in measurements if len(table.rows) and len(tensors.event_id))


def _count(rows: Path) -> int:
    return row_count(rows)


def _arrays(schema: Schema, layout: Layout, folder: Path, rows: int) -> Measurements:
    """Actual and expected rows and type of each array."""
    wanted = {
        "categorical": ("int32", len(layout.categorical_tables)),
        "bags": ("int32", sum(layout.bag_lengths)),
        "numeric": ("float32", layout.numeric),
        "scenario": ("int32", None),
        "labels": ("float32", len(schema.tasks)),
        "event_id": ("int64", None),
        "user": ("int64", None),
    }
    of_some = {"choice_set": "int64", "weight": "float32", "position": "int32"}  # arrays that only some schemas have
    wanted |= {name: (dtype, None) for name, dtype in of_some.items() if getattr(schema, name) is not None}
    actual = [_shape(folder / f"{name}.npy") for name in wanted]
    rules = (
        expect_equal("rows lost or added", "rows", "Every array has as many rows as the Parquet file"),
        expect_equal("array of another type", "type", "Every array is there, with its type and width"),
    )
    table = pa.table(
        {
            "array": list(wanted),
            "rows": [count for count, _ in actual],
            "wanted rows": [rows] * len(wanted),
            "type": [text for _, text in actual],
            "wanted type": [_type_name(*pair) for pair in wanted.values()],
        }
    )
    return Measurements(key="array", rows=table, rules=rules)


def _shape(path: Path) -> tuple[int, str]:
    """Rows and type of an array; 0 rows of the type "unreadable" where it is absent or cut short."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return 0, "unreadable"
    return len(array), _type_name(str(array.dtype), array.shape[1] if array.ndim > 1 else None)


def _type_name(dtype: str, width: int | None) -> str:
    return dtype if width is None else f"{dtype} x {width}"


def _events(schema: Schema, rows: Path, tensors: Tensors) -> Measurements:
    """The event ids against those of the Parquet file, row by row."""
    first: list[int] = []
    other = start = 0
    for batch in read_batches(rows, BLOCK_ROWS, [schema.event_id]):
        ids = tensors.event_id[start : start + len(batch)]
        differing = ids[ids != batch.column(0).to_numpy()]
        first, other, start = [*first, *differing[: gate.SHOWN]], other + len(differing), start + len(batch)
    repeated = _repeated(tensors.event_id)
    measurements = {
        "array": "event_id",
        "other events": other,
        "first others": gate.first_few(first),
        "repeated events": len(repeated),
        "first repeated": gate.first_few(repeated),
    }
    rules = (
        expect_zero(
            "other events", ["other events", "first others"], "Row i is that of the event of row i of the file"
        ),
        expect_zero("repeated events", ["repeated events", "first repeated"], "No event occurs twice"),
    )
    return Measurements(key="array", rows=pa.Table.from_pylist([measurements]), rules=rules)


def _repeated(ids: np.ndarray) -> list[int]:
    """Ids that occur more than once, in order; DuckDB spills to disk what does not fit."""
    with connect() as connection:
        connection.register("event_ids", pa.table({"id": pa.array(np.asarray(ids))}))
        query = "select id from event_ids group by id having count(*) > 1 order by id"
        return [id_ for (id_,) in connection.execute(query).fetchall()]


def _ids(encoder: Encoder, tensors: Tensors, settings: Inspect) -> Measurements:
    """Lowest and highest id of each input, the rows of its table, and the share that is unknown."""
    measurements = [*_categorical(encoder, tensors), *_bags(encoder, tensors), _scenario(encoder, tensors)]
    types = pa.schema(
        [
            ("input", pa.string()),
            ("least", pa.int64()),
            ("lowest", pa.int64()),
            ("highest", pa.int64()),
            ("rows of its table", pa.int64()),
            ("unknown", pa.float64()),
        ]
    )
    return Measurements(
        key="input", rows=pa.Table.from_pylist(measurements, types), rules=tuple(_in_table(settings.unknown_share))
    )


def _in_table(limit: float) -> Iterator[Rule]:
    kind = gxe.ExpectColumnPairValuesAToBeGreaterThanB
    yield expect(
        kind,
        "row",
        "id beyond its table",
        ["highest", "rows of its table"],
        "Every id names a row of its table",
        column_A="rows of its table",
        column_B="highest",
        ignore_row_if="neither",
    )
    yield expect(
        kind,
        "row",
        "id below its table",
        ["lowest", "least"],
        f"No id lies below 0; in a list, below {PADDING} (padding)",
        column_A="lowest",
        column_B="least",
        or_equal=True,
        ignore_row_if="neither",
    )
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "unknown too often",
        ["unknown"],
        f"At most {limit:.0%} of the values of an input are unknown to the encoder, or missing",
        severity="warning",
        column="unknown",
        max_value=limit,
    )


def _categorical(encoder: Encoder, tensors: Tensors) -> Iterator[dict[str, Any]]:
    layout, names = encoder.layout, [c.name for c in encoder.columns if c.kind is Kind.CATEGORICAL]
    if names:
        low, high = _extremes(tensors.categorical)
        unknown = sum(np.count_nonzero(block == UNKNOWN, axis=0) for block in blocks(tensors.categorical))
    for index, (name, table) in enumerate(zip(names, layout.categorical_tables, strict=True)):
        yield {
            "input": name,
            "least": 0,
            "lowest": int(low[index]),
            "highest": int(high[index]),
            "rows of its table": layout.table_rows[table],
            "unknown": round(float(unknown[index]) / len(tensors.event_id), 4),
        }


def _bags(encoder: Encoder, tensors: Tensors) -> Iterator[dict[str, Any]]:
    layout, start, lists = encoder.layout, 0, [column.name for column in encoder.columns if column.is_list]
    for name, table, length in zip(lists, layout.bag_tables, layout.bag_lengths, strict=True):
        bag, start = tensors.bags[:, start : start + length], start + length
        low, high = _extremes(bag)
        unknown = sum(int(np.count_nonzero(block == UNKNOWN)) for block in blocks(bag))
        values = sum(int(np.count_nonzero(block != PADDING)) for block in blocks(bag))
        yield {
            "input": name,
            "least": PADDING,
            "lowest": int(low.min()),
            "highest": int(high.max()),
            "rows of its table": layout.table_rows[table],
            "unknown": round(unknown / values, 4) if values else None,
        }


def _scenario(encoder: Encoder, tensors: Tensors) -> dict[str, Any]:
    low, high = _extremes(tensors.scenario)
    return {
        "input": f"{encoder.scenario} (code)",
        "least": 0,
        "lowest": int(low),
        "highest": int(high),
        "rows of its table": len(encoder.scenarios),
        "unknown": None,
    }


def _numbers(encoder: Encoder, tensors: Tensors) -> Measurements:
    """How many values of each number are not finite, and how many lie beyond the limit."""
    names = list(encoder.number_names)
    wild = sum(np.count_nonzero(~np.isfinite(block), axis=0) for block in blocks(tensors.numeric))
    far = sum(np.count_nonzero(np.abs(block) > LIMIT, axis=0) for block in blocks(tensors.numeric))
    rules = (
        expect_zero("not finite", ["not finite"], "Every number is finite"),
        expect_zero(
            "beyond the limit", ["beyond the limit"], f"Every number lies within {LIMIT:g} standard deviations"
        ),
    )
    counts = {
        "not finite": pa.array(np.atleast_1d(wild)[: len(names)], pa.int64()),
        "beyond the limit": pa.array(np.atleast_1d(far)[: len(names)], pa.int64()),
    }
    return Measurements(key="input", rows=pa.table({"input": pa.array(names, pa.string()), **counts}), rules=rules)


def _extremes(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of each column."""
    low = reduce(np.minimum, (block.min(axis=0) for block in blocks(array)))
    return low, reduce(np.maximum, (block.max(axis=0) for block in blocks(array)))
