"""Every value through the whole pipeline: from a reader's columns to the online store it stays what it is."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from features.aggregate import aggregate
from features.datasets.writer import write_entities, write_events
from features.encode import encode
from features.encoding.encoder import Encoder
from features.encoding.request_encoder import RequestEncoder
from features.encoding.tensors import open_tensors
from features.join import join
from features.materialize import materialize
from features.schema import Column, Schema, read_views, to_json
from features.store.definitions import open_store
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from features.summarize import summarize
from tests.support import extreme_log, rich_world
from tests.support.extreme_log import Row

pytestmark = pytest.mark.integration

DATA, SCHEMA, ONLINE = Path("data"), Path("data/schema.json"), Path("online/online.db")
FEATURES = DATA / "features"


def test_every_value_is_exact_or_in_quarantine() -> None:
    """Every row is ingested as it was, then accepted or in quarantine; what is accepted is joined and served."""
    run_pipeline(*extreme_log.sampled())


@pytest.mark.slow
@settings(
    max_examples=8, deadline=None, phases=[Phase.generate], derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(extreme_log.logs())
def test_every_value_of_many_logs_is_exact_or_in_quarantine(drawn: tuple[Schema, dict[str, list[Row]]]) -> None:
    """The same for more logs."""
    run_pipeline(*drawn)


def run_pipeline(schema: Schema, tables: dict[str, list[Row]]) -> None:
    """Every stage from ingest to the online store, each held against the raw rows."""
    with tempfile.TemporaryDirectory() as folder, extreme_log.project(Path(folder)):
        accepted = check_ingest_and_gate(schema, tables)
        aggregate(schema=SCHEMA, validated=DATA / "out", out=FEATURES)
        check_training_set(schema, accepted)
        check_encoder(schema, accepted)
        materialize(schema=SCHEMA, features=FEATURES, online=ONLINE)
        check_stores(schema, accepted)


def check_ingest_and_gate(schema: Schema, tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Ingested rows equal the raw ones; each is accepted or in quarantine. Returns the accepted ones."""
    log, ingested = extreme_log.as_log(schema, tables), DATA / "ingested"
    ingested.mkdir(parents=True)
    SCHEMA.write_text(to_json(schema))
    write_events(log, None, ingested, DATA / "truth.parquet")
    write_entities(log, ingested)
    rich_world.check(DATA, schema, tolerance=1.0)
    accepted = {name: rich_world.read(DATA / "out", name) for name in tables}
    for name, raw in tables.items():
        names = [column.name for column in schema.tables[name] if column.name != schema.event_id]
        rejected = pq.read_table(DATA / "quarantine" / f"{name}.parquet").to_pylist()
        assert all(row["reasons"] for row in rejected)
        for stored in (rich_world.read(ingested, name), accepted[name] + rejected):
            assert texts(stored, names) == texts(raw, names)
    return accepted


def texts(rows: list[Row], names: list[str]) -> list[str]:
    """The values of the rows as text, in order of it; equal for equal values of equal types."""
    return sorted(repr([row[name] for name in names]) for row in rows)


def check_training_set(schema: Schema, accepted: dict[str, list[Row]]) -> None:
    """Each accepted event is joined once, its own values and the profiles of its user and item as they were."""
    join(schema=SCHEMA, validated=DATA / "out", features=FEATURES, out=DATA / "training")
    joined = [row for split in ("train", "valid", "test") for row in read(DATA / "training" / f"{split}.parquet")]
    own = [column.name for column in schema.events]
    assert texts(joined, own) == texts(accepted["events"], own)
    for table, key in (("users", schema.user), ("items", schema.item)):
        profiles, names = by_id(accepted[table], key), columns_of(schema.profile(table))
        for row in joined:
            if row["timestamp"] >= extreme_log.START:  # a profile is known from the first day of the log on
                assert [row[name] for name in names] == [profiles[row[key]][name] for name in names]


def check_encoder(schema: Schema, accepted: dict[str, list[Row]]) -> None:
    """Each value of the training rows has its own id, and a request is encoded like the row of the training set."""
    training, path = DATA / "training", Path("encoder.parquet")
    encode(schema=SCHEMA, views=FEATURES / "views.json", training=training, encoder=path, out=DATA / "tensors")
    encoder, rows = Encoder.read(path), read(training / "train.parquet")
    for name in ("context_category", "context_text", "user", "item", "user_category", "item_text"):
        assert encoder.vocabularies[name] == sorted({row[name] for row in rows} - {None}, key=sort_key)
    tensors, requests = (
        open_tensors(DATA / "tensors" / "train"),
        RequestEncoder(encoder, frozenset(columns_of(encoder.columns))),
    )
    for index, row in enumerate(rows):
        batch = requests.encode(row, 0)
        for part in ("categorical", "bags", "numeric"):
            assert getattr(batch, part)[0].tobytes() == getattr(tensors, part)[index].tobytes(), part
    summarize(schema=SCHEMA, encoder=path, training=training, out=Path("reference.json"))


def check_stores(schema: Schema, accepted: dict[str, list[Row]]) -> None:
    """The profile of each accepted user and item is online as it was, and that of each item in the snapshot."""
    views = read_views(FEATURES / "views.json")
    store = open_store(schema, views, features=FEATURES, online=ONLINE, registry=Path("registry.db"), reads=True)
    for table, view, key in (("users", "user", schema.user), ("items", "item", schema.item)):
        names = columns_of(schema.profile(table))
        ids = [{key: row[key]} for row in accepted[table]]
        online = store.get_online_features([f"{view}:{name}" for name in names], ids).to_dict() if ids else {}
        for name in names if ids else ():
            assert online[name] == [row[name] for row in accepted[table]], name
    items = by_id(read_snapshot(item_snapshot_path(ONLINE), schema, views).rows.to_pylist(), schema.item)
    for row in accepted["items"]:
        assert (
            row.items() >= {name: items[row[schema.item]][name] for name in columns_of(schema.profile("items"))}.items()
        )


def read(path: Path) -> list[Row]:
    """The rows of a Parquet file."""
    return pq.read_table(path).to_pylist()


def by_id(rows: list[Row], key: str) -> dict[Any, Row]:
    """The rows by their id."""
    return {row[key]: row for row in rows}


def columns_of(columns: tuple[Column, ...]) -> list[str]:
    """The names of the columns."""
    return [column.name for column in columns]


def sort_key(value: int | str) -> int | bytes:
    """The order of a vocabulary: numbers by size, text by its bytes."""
    return value.encode() if isinstance(value, str) else value
