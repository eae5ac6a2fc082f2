"""Stage ingest: any log becomes typed days, in order, numbered, with nothing lost that is not counted."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import stage
from common.errors import SourceError
from features import datasets
from features.datasets import writer
from features.datasets.log import ROW, Counts, Log
from features.engine.arrow_types import TYPES
from features.ingest import ingest as run_ingest
from features.schema import read_schema
from tests.support import world

PARAMS = yaml.safe_load(Path("params.yaml").read_text())


@pytest.fixture
def ingest(tmp_path, monkeypatch) -> Callable[[Log], Path]:
    """Runs the stage on a log in a folder of its own and returns that folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))

    def run(log: Log) -> Path:
        shutil.rmtree("data", ignore_errors=True)  # as DVC does before a stage
        monkeypatch.setattr(datasets, "read", lambda _: log)
        run_ingest(schema=Path("data/schema.json"), out=Path("data/ingested"), truth=Path("data/truth"))
        return tmp_path / "data"

    return run


def log_of(events: pd.DataFrame, *, chunk: int = 90, **others: object) -> Log:
    """The tiny world's log, its events in chunks as they stand."""
    tables, counts = world.tables(), Counts()

    def chunks():
        for first in range(0, len(events), chunk):
            part = events.iloc[first : first + chunk]
            counts.rows_read += len(part)
            yield part

    known = {"schema": world.schema(), "users": tables["users"], "items": tables["items"], **others}
    return Log(chunks=chunks, counts=counts, **known)


def shuffled(*, seed: int = 0, **sizes: int) -> pd.DataFrame:
    """Events of the tiny world in no order, without ids; several of them share a moment."""
    events = world.tables(seed=seed, **sizes)["events"].drop(columns="event_id")
    return events.assign(timestamp=events["timestamp"].dt.floor("10min")).sample(frac=1, random_state=seed)


def read_events(data: Path) -> pd.DataFrame:
    """All days, in order of their names."""
    files = sorted(data.glob("ingested/events/day=*/part-0.parquet"))
    return pd.concat([pq.ParquetFile(file).read().to_pandas() for file in files], ignore_index=True)


def in_order(events: pd.DataFrame) -> pd.DataFrame:
    """The obvious version: sort by time, rows of one moment as they stood, number them."""
    events = events.sort_values("timestamp", kind="stable").reset_index(drop=True)
    return events.assign(event_id=np.arange(len(events)))[["event_id", *events.columns]]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 500),
    days=st.integers(1, 60),
    chunk=st.integers(1, 300),
    block=st.integers(1, 200),
)
def test_equals_the_obvious_version(ingest, seed, rows, days, chunk, block):
    """Whatever the order, the days and the sizes of chunks and blocks: the same rows as pandas would give."""
    events = shuffled(seed=seed, rows=rows, days=days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "ROWS", block)
        found = read_events(ingest(log_of(events, chunk=chunk)))
    pd.testing.assert_frame_equal(found, in_order(events), check_dtype=False)


def test_partitions(ingest):
    """Each UTC day has exactly one file, named after it, with that day's rows alone."""
    data = ingest(log_of(shuffled()))
    for folder in (data / "ingested/events").iterdir():
        rows = pq.ParquetFile(folder / "part-0.parquet").read().to_pandas()
        assert set(rows["timestamp"].dt.strftime("day=%Y-%m-%d")) == {folder.name}
        assert [file.name for file in folder.iterdir()] == ["part-0.parquet"]


def test_the_clock_put_back(ingest, tmp_path):
    """What happened on dataset.until or later is not read, and counted; the rest is what it was, ids included."""
    events = shuffled()
    whole = read_events(ingest(log_of(events)))
    until = whole["timestamp"].dt.floor("D").iloc[250]
    settings = copy.deepcopy(PARAMS)
    settings["dataset"]["until"] = f"{until:%Y-%m-%d}"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    data = ingest(log_of(events))
    expected = whole[whole["timestamp"] < until]
    assert 0 < len(expected) < 400
    pd.testing.assert_frame_equal(read_events(data), expected)
    counts = json.loads((data / "ingested/counts.json").read_text())
    assert counts["left_out"] == {"on dataset.until or later": 400 - len(expected)}
    assert counts["repeated_rows"] == 0


def test_nothing_before_the_clock(ingest, tmp_path):
    """A clock put back behind the first event leaves nothing, which is said."""
    settings = copy.deepcopy(PARAMS)
    settings["dataset"]["until"] = "1999-01-01"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SourceError, match=r"not a single one to read; left out: {'on dataset.until or later': 400}"):
        ingest(log_of(shuffled()))


def test_types(ingest):
    """Every table has the declared columns in their declared order and types."""
    data, schema = ingest(log_of(shuffled())), world.schema()
    files = {"events": next((data / "ingested/events").rglob("*.parquet"))}
    files |= {table: data / "ingested" / f"{table}.parquet" for table in ("users", "items")}
    for table, file in files.items():
        found = pq.ParquetFile(file).schema_arrow
        wanted = {column.name: TYPES[column.dtype] for column in schema.tables[table]}
        assert dict(zip(found.names, found.types, strict=True)) == wanted


def test_schema_and_counts(ingest):
    """The declaration lies beside the data, and every row read is written, repeated or left out."""
    data = ingest(log_of(shuffled()))
    assert read_schema(data / "schema.json") == world.schema()
    counts = json.loads((data / "ingested/counts.json").read_text())
    assert counts == {"rows_read": 400, "repeated_rows": 0, "left_out": {}, "rows_written": 400, "made_null": {}}


def test_repeats_are_dropped_where_asked(ingest):
    """Rows equal in all columns, fingerprint included, are kept once and counted; others only look alike."""
    events = shuffled().assign(**{ROW: np.arange(400, dtype="uint64")})
    alike = events.head(20).assign(**{ROW: np.arange(1000, 1020, dtype="uint64")})
    data = ingest(log_of(pd.concat([events, events.tail(30), alike])))
    assert json.loads((data / "ingested/counts.json").read_text())["repeated_rows"] == 30
    pd.testing.assert_frame_equal(
        read_events(data), in_order(pd.concat([events, alike])).drop(columns=ROW), check_dtype=False
    )


def test_repeats_are_kept_where_not_asked(ingest):
    """Without fingerprints nothing is dropped: two equal impressions are two impressions."""
    events = shuffled()
    assert len(read_events(ingest(log_of(pd.concat([events, events]))))) == 800


def test_truth(ingest):
    """True probabilities go to the truth, by event id, and not into the events."""
    events = shuffled()
    true = events.assign(p_click=np.linspace(0, 1, 400), p_order=np.linspace(0, 0.1, 400))
    data = ingest(log_of(true))
    assert list(read_events(data)) == ["event_id", *events.columns]
    expected = in_order(true)[["event_id", "p_click", "p_order"]]
    pd.testing.assert_frame_equal(pd.read_parquet(data / "truth/truth.parquet"), expected)


def test_no_truth(ingest):
    """A log whose truth is not known has a truth without rows."""
    truth = pq.read_table(ingest(log_of(shuffled())) / "truth/truth.parquet")
    assert (truth.num_rows, truth.schema.names) == (0, ["event_id"])


def test_same_log_same_bytes(ingest, tmp_path):
    """Two runs write the same bytes, whatever the chunks and the threads; no run leaves anything else behind."""
    events = shuffled(rows=3000)
    found = []
    for chunk, threads in ((90, 1), (90, 2), (1000, 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "threads", lambda threads=threads: threads)
            ingest(log_of(events, chunk=chunk))
        files = sorted(file for file in (tmp_path / "data").rglob("*") if file.is_file())
        found.append({str(file.relative_to(tmp_path)): file.read_bytes() for file in files})
    assert found[0] == found[1] == found[2]
    assert not [name for name in found[0] if "spill" in name]


def test_after_a_kill(ingest, tmp_path):
    """What a killed run spilled is thrown away."""
    (tmp_path / "data/ingested.spill").mkdir(parents=True)
    (tmp_path / "data/ingested.spill/events.parquet").write_bytes(b"half")
    ingest(log_of(shuffled()))
    assert not (tmp_path / "data/ingested.spill").exists()


def test_entities_are_in_order(ingest):
    """Users and items are sorted by their ids."""
    tables = world.tables()
    data = ingest(log_of(shuffled(), users=tables["users"].iloc[::-1]))
    assert pd.read_parquet(data / "ingested/users.parquet")["user_id"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"click": "yes"}, "column click does not fit its type int8"),
        ({"user_id": 0.5}, "column user_id does not fit its type int64"),
        ({"timestamp": pd.NaT}, "rows have no timestamp"),
    ],
)
def test_wrong_values(ingest, change, message):
    """A value that does not fit the declaration stops the stage with the name of its column."""
    with pytest.raises(SourceError, match=message):
        ingest(log_of(shuffled().assign(**change)))


def test_missing_column(ingest):
    """A declared column that the reader does not yield is named."""
    with pytest.raises(SourceError, match="column hour is declared, but"):
        ingest(log_of(shuffled().drop(columns="hour")))


def test_no_events(ingest):
    """A log without a single event is an error, not an empty folder."""
    with pytest.raises(SourceError, match="not a single one to read"):
        ingest(log_of(shuffled().head(0)))


def test_missing_values_stay_missing():
    """Numbers with gaps become integers with nulls; nothing is filled in."""
    frame = pd.DataFrame({"price": [1.5, None], "item_id": [1.0, 2.0], "tags": [["hot"], []], "listed_at": world.START})
    table = writer.typed_table(frame, world.schema().items, "items")
    assert table["price"].to_pylist() == [1.5, None]
    assert table["tags"].to_pylist() == [["hot"], []]
    assert table["item_id"].type == pa.int64()


def test_simulation_end_to_end(tmp_path, monkeypatch):
    """The stage as DVC runs it, on a small simulation: every impression, and a truth for each."""
    monkeypatch.chdir(tmp_path)
    small = {**PARAMS["dataset"]["simulation"], "impressions": 5000, "users": 300, "items": 100}
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, "dataset": {**PARAMS["dataset"], "simulation": small}}))
    run_ingest(schema=Path("data/schema.json"), out=Path("data/ingested"), truth=Path("data/truth"))
    events, truth = read_events(Path("data")), pd.read_parquet("data/truth/truth.parquet")
    assert events["event_id"].tolist() == truth["event_id"].tolist() == list(range(5000))
    assert events["timestamp"].is_monotonic_increasing
