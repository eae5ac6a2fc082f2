"""The quality gate of the features as served: a sample of them is compared with the features recomputed offline.

The model is trained on features of the offline store as of each impression; the service read an online store, which is
materialized up to some time. Where they differ too often, the model is not trained on what it will see.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.parquet as pq

from common.files import replacing
from common.serve_params import Feedback
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.quality import gate
from features.quality.datadocs import QualityGate
from features.quality.gate import Measurements, SuiteResult
from features.quality.results import nan_as_null, quiet_context
from features.quality.rule import expect
from features.quality.served_sessions import reads_labels, recomputed_sessions
from features.schema import Schema, View
from features.session.item_values import ItemValues, read_item_values
from features.session.states import Mask
from features.store.definitions import open_store
from features.store.point_in_time import join_features

GATE = QualityGate(
    name="served",
    title="Features as served",
    remedy="Look at the columns in the report: an online store that is behind (flow `materialize`, or the consumer of "
    "events), a client that sends features of its own, or views that changed since the model was trained.",
)
SERVED_AT = "served_at"  # of the scored-impression log (serving/telemetry/impression_log.py)
SHARE = "share"
RECOMPUTED = "recomputed "  # prefix of a column in the file of both


def check_served(
    schema: Schema,
    views: Sequence[View],
    *,
    files: Sequence[Path],
    received: Sequence[Path] = (),
    features: Path,
    settings: Feedback,
    out: Path,
) -> list[SuiteResult]:
    """A suite per view: the features as served of a sample of impressions, and those of the offline store as of then.

    Columns of a session that depend on labels are compared where every label of the events that they see was reported.

    Args:
        schema: Declaration of the data set.
        views: The views of the offline store.
        files: Parquet files of features as served, with the id of each event and `served_at`.
        received: Parquet files of the events that the service received; without any, sessions are left out.
        features: Folder of the views' Parquet files (the offline store).
        settings: Size of the sample, which is drawn by a hash of the ids, and the tolerance.
        out: Parquet file that is written: both values of each column, side by side.
    """
    served = _drawn(schema, files, settings.sample)
    plain = tuple(view for view in views if view.session is None)
    sessions = [view for view in views if view.session is not None and received]
    recomputed = _recomputed(schema, plain, features, served)
    columns = {name: served[name] for name in (schema.event_id, SERVED_AT)}
    context, suites = quiet_context(), []
    for view in (*plain, *sessions):
        names = [column.name for column in view.columns if column.name in served.column_names]
        if view.session is None:
            values, complete = {name: recomputed[name] for name in names}, dict[str, Mask]()
        else:
            values, complete = _sessions(
                schema,
                view,
                served,
                received=received,
                features=features,
                items=read_item_values(schema, view, views, features),
            )
        for name in names:
            columns |= {name: served[name].cast(values[name].type), RECOMPUTED + name: values[name]}
        both = pa.table(columns)
        measured = _measured(names, both, complete, schema.event_id, settings.tolerance)
        outcomes = gate.evaluate(context, measured) if len(measured.rows) else []
        suites.append(SuiteResult(name=view.name, rows=served.num_rows, outcomes=outcomes))
    with replacing(out) as partial:
        pq.write_table(pa.table(columns), partial)
    return suites


def _sessions(
    schema: Schema, view: View, served: pa.Table, *, received: Sequence[Path], features: Path, items: ItemValues
) -> tuple[dict[str, pa.Array], dict[str, Mask]]:
    """The recomputed columns of a session view, and the rows of those that depend on labels which can be compared."""
    values, complete = recomputed_sessions(
        schema,
        view,
        served={name: served[name] for name in (schema.user, schema.item)},
        at=served[SERVED_AT],
        received=received,
        table=features / f"{view.name}.parquet",
        values=items,
    )
    return values, {column.name: complete for column in view.columns if reads_labels(view, column)}


def _drawn(schema: Schema, files: Sequence[Path], sample: int) -> pa.Table:
    """The features as served of a sample of events, in order of their ids: the same ones for the same events."""
    event_id = sql.column(schema.event_id)
    log = sql.parquet_by_name(files)
    query = f"select * from (from {log} order by md5({event_id}::text), {event_id} limit {sample}) order by {event_id}"
    with connect() as connection:
        return connection.execute(query).to_arrow_table()


def _recomputed(schema: Schema, views: tuple[View, ...], features: Path, served: pa.Table) -> pa.Table:
    """The features of the offline store as of the time at which each row was served, in order of the event ids."""
    types, keys = arrow_schema(schema.events), (schema.event_id, schema.user, schema.item, schema.scenario)
    known = {name: served[name] for name in keys} | {schema.timestamp: served[SERVED_AT]}
    columns = [
        known[field.name].cast(field.type) if field.name in known else pa.nulls(served.num_rows, field.type)
        for field in types
    ]
    with TemporaryDirectory() as scratch:
        online, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
        store = open_store(schema, views, features=features, online=online, registry=registry)
        return join_features(store, schema, views, pa.table(columns, schema=types))


def _measured(
    names: list[str], both: pa.Table, complete: Mapping[str, Mask], event_id: str, tolerance: float
) -> Measurements:
    """The share of the values of each column that differ, and the first of them; of some in `complete` rows only."""
    shown = ["differing", "first event", "served", "recomputed"]
    rule = expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "features as served differ",
        [SHARE, *shown],
        f"At most {tolerance:.2%} of the values of a feature differ from those recomputed offline, nulls too",
        column=SHARE,
        max_value=tolerance,
    )
    types = {"feature": pa.string(), SHARE: pa.float64(), "differing": pa.int64()}
    types |= {name: pa.string() for name in shown[1:]}
    compared = {name: both.filter(pa.array(complete[name])) if name in complete else both for name in names}
    rows = [_compare(name, table, event_id) for name, table in compared.items() if table.num_rows]
    return Measurements(key="feature", rows=pa.Table.from_pylist(rows, pa.schema(types)), rules=(rule,))


def _compare(name: str, both: pa.Table, event_id: str) -> dict[str, Any]:
    served, recomputed = (list(map(nan_as_null, both[of].to_pylist())) for of in (name, RECOMPUTED + name))
    differing = [index for index, pair in enumerate(zip(served, recomputed, strict=True)) if pair[0] != pair[1]]
    measured = {"feature": name, SHARE: len(differing) / len(served), "differing": len(differing)}
    if not differing:
        return measured
    first = differing[0]
    return measured | {
        "first event": str(both[event_id][first]),
        "served": str(served[first]),
        "recomputed": str(recomputed[first]),
    }
