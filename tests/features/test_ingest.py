"""Stage ingest: any log becomes typed events by day, in order, numbered, and every row left out is counted."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import stage
from common.errors import SourceError
from common.yaml_file import dump_yaml, read_yaml
from features import datasets
from features.datasets import writer
from features.datasets.log import ROW, Counts, Log
from features.engine.arrow_types import TYPES
from features.ingest import ingest as run_ingest
from features.schema import read_schema
from tests.support import world
from tests.support.examples import examples

pytestmark = pytest.mark.integration

PARAMS = read_yaml(Path("params.yaml"))


@pytest.fixture
def ingest(tmp_path, monkeypatch) -> Callable[[Log], Path]:
    """Runs the stage on a log in a new folder and returns that folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(dump_yaml(PARAMS), encoding="utf-8")

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
    """Events of the tiny world in no order, without ids; some have the same timestamp."""
    events = world.tables(seed=seed, **sizes)["events"].drop(columns="event_id")
    return events.assign(timestamp=events["timestamp"].dt.floor("10min")).sample(frac=1, random_state=seed)


def read_events(data: Path) -> pd.DataFrame:
    """All days, in order of their names."""
    files = sorted(data.glob("ingested/events/day=*/part-0.parquet"))
    return pd.concat([pq.ParquetFile(file).read().to_pandas() for file in files], ignore_index=True)


def in_order(events: pd.DataFrame) -> pd.DataFrame:
    """The simple version: sort by time, keep the order of rows with one timestamp, number them."""
    events = events.sort_values("timestamp", kind="stable").reset_index(drop=True)
    return events.assign(event_id=np.arange(len(events)))[["event_id", *events.columns]]


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 500),
    days=st.integers(1, 60),
    chunk=st.integers(1, 300),
    block=st.integers(1, 200),
)
def test_events_equal_the_simple_version(ingest, seed, rows, days, chunk, block):
    """Whatever the order, the days and the sizes of chunks and blocks: the same rows as pandas would give."""
    events = shuffled(seed=seed, rows=rows, days=days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "ROWS", block)
        actual = read_events(ingest(log_of(events, chunk=chunk)))
    pd.testing.assert_frame_equal(actual, in_order(events), check_dtype=False)


def test_each_day_has_one_file(ingest):
    """Each UTC day has exactly one file, named after it, with that day's rows alone."""
    data = ingest(log_of(shuffled()))
    for folder in (data / "ingested/events").iterdir():
        rows = pq.ParquetFile(folder / "part-0.parquet").read().to_pandas()
        assert set(rows["timestamp"].dt.strftime("day=%Y-%m-%d")) == {folder.name}
        assert [file.name for file in folder.iterdir()] == ["part-0.parquet"]


def test_events_from_dataset_until_on_are_left_out(ingest, tmp_path):
    """Events on dataset.until or later are left out and counted; the others are the same, ids included."""
    events = shuffled()
    whole = read_events(ingest(log_of(events)))
    until = whole["timestamp"].dt.floor("D").iloc[250]
    settings = copy.deepcopy(PARAMS)
    settings["dataset"]["until"] = f"{until:%Y-%m-%d}"
    (tmp_path / "params.yaml").write_text(dump_yaml(settings), encoding="utf-8")
    data = ingest(log_of(events))
    expected = whole[whole["timestamp"] < until]
    assert 0 < len(expected) < 400
    pd.testing.assert_frame_equal(read_events(data), expected)
    counts = json.loads((data / "ingested/counts.json").read_text())
    assert counts["left_out"] == {"on dataset.until or later": 400 - len(expected)}
    assert counts["repeated_rows"] == 0


def test_a_log_without_an_event_before_dataset_until_is_an_error(ingest, tmp_path):
    """With dataset.until before the first event no event is left, and the error counts them."""
    settings = copy.deepcopy(PARAMS)
    settings["dataset"]["until"] = "1999-01-01"
    (tmp_path / "params.yaml").write_text(dump_yaml(settings), encoding="utf-8")
    with pytest.raises(SourceError, match=r"not a single one to read; left out: {'on dataset.until or later': 400}"):
        ingest(log_of(shuffled()))


def test_tables_have_the_declared_columns_and_types(ingest):
    """Every table has the declared columns in their declared order and types."""
    data, schema = ingest(log_of(shuffled())), world.schema()
    files = {"events": next((data / "ingested/events").rglob("*.parquet"))}
    files |= {table: data / "ingested" / f"{table}.parquet" for table in ("users", "items")}
    for table, file in files.items():
        actual = pq.ParquetFile(file).schema_arrow
        declared = {column.name: TYPES[column.dtype] for column in schema.tables[table]}
        assert dict(zip(actual.names, actual.types, strict=True)) == declared


def test_schema_and_counts_are_written(ingest):
    """The declaration lies beside the data, and every row read is written, repeated or left out."""
    data = ingest(log_of(shuffled()))
    assert read_schema(data / "schema.json") == world.schema()
    counts = json.loads((data / "ingested/counts.json").read_text())
    assert counts == {"rows_read": 400, "repeated_rows": 0, "left_out": {}, "rows_written": 400, "made_null": {}}


def test_duplicates_with_a_fingerprint_are_dropped(ingest):
    """Rows equal in all columns, fingerprint included, are kept once and counted; other fingerprints, other rows."""
    events = shuffled().assign(**{ROW: np.arange(400, dtype="uint64")})
    alike = events.head(20).assign(**{ROW: np.arange(1000, 1020, dtype="uint64")})
    data = ingest(log_of(pd.concat([events, events.tail(30), alike])))
    assert json.loads((data / "ingested/counts.json").read_text())["repeated_rows"] == 30
    pd.testing.assert_frame_equal(
        read_events(data), in_order(pd.concat([events, alike])).drop(columns=ROW), check_dtype=False
    )


def test_duplicates_without_a_fingerprint_are_kept_and_counted(ingest, capsys):
    """Without fingerprints nothing is dropped: two equal impressions are two impressions, and a warning counts them."""
    events = shuffled()
    data = ingest(log_of(pd.concat([events, events])))
    assert len(read_events(data)) == 800
    assert json.loads((data / "ingested/counts.json").read_text())["repeats_kept"] == 400
    assert "warning: 400 of 800 events repeat another one in every column, and are kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("unit", "wrong", "message"),
    [
        ("ms", "s", "converts numbers to timestamps in another unit than theirs"),
        ("us", "ms", "converts numbers to timestamps in another unit than theirs"),
        ("s", "ms", "400 of 400 timestamps in timestamp lie before 1971 .* the earliest is 1970-01-2"),
        ("s", "ns", "lie before 1971"),
    ],
)
def test_timestamps_that_were_read_in_another_unit_are_an_error(ingest, unit, wrong, message):
    """A reader that takes milliseconds for seconds, seconds for nanoseconds, ... is refused."""
    events = shuffled()
    numbers = events["timestamp"].astype(f"datetime64[{unit}]").astype("int64")
    log = log_of(events)

    def chunks():
        yield events.assign(timestamp=pd.to_datetime(numbers, unit=wrong).dt.floor("us"))

    with pytest.raises(SourceError, match=f"{message}.*from_epoch"):
        ingest(dataclasses.replace(log, chunks=chunks))


def test_true_probabilities_are_written_by_event_id(ingest):
    """True probabilities go to the truth, by event id, and not into the events."""
    events = shuffled()
    true = events.assign(p_click=np.linspace(0, 1, 400), p_order=np.linspace(0, 0.1, 400))
    data = ingest(log_of(true))
    assert list(read_events(data)) == ["event_id", *events.columns]
    expected = in_order(true)[["event_id", "p_click", "p_order"]]
    pd.testing.assert_frame_equal(pd.read_parquet(data / "truth/truth.parquet"), expected)


def test_a_log_without_true_probabilities_has_an_empty_truth(ingest):
    """The file of true probabilities has the event id and no rows."""
    truth = pq.read_table(ingest(log_of(shuffled())) / "truth/truth.parquet")
    assert (truth.num_rows, truth.schema.names) == (0, ["event_id"])


def test_the_same_log_gives_the_same_bytes(ingest, tmp_path):
    """Two runs write the same bytes, whatever the chunks and the threads; no run leaves anything else behind."""
    events = shuffled(rows=3000)
    runs = []
    for chunk, threads in ((90, 1), (90, 2), (1000, 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "threads", lambda threads=threads: threads)
            ingest(log_of(events, chunk=chunk))
        files = sorted(file for file in (tmp_path / "data").rglob("*") if file.is_file())
        runs.append({str(file.relative_to(tmp_path)): file.read_bytes() for file in files})
    assert runs[0] == runs[1] == runs[2]
    assert not [name for name in runs[0] if "spill" in name]


def test_files_of_a_killed_run_are_removed(ingest, tmp_path):
    """The spilled file of a killed run is removed."""
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
        ({"click": "yes"}, "column click does not fit its type int8, row 0: 'yes'"),
        ({"user_id": 0.5}, "column user_id does not fit its type int64"),
        ({"timestamp": pd.NaT}, "rows have no timestamp"),
    ],
)
def test_a_value_of_another_type_is_an_error(ingest, change, message):
    """A value that does not fit the declaration is an error with the name of its column."""
    with pytest.raises(SourceError, match=message):
        ingest(log_of(shuffled().assign(**change)))


def test_a_missing_column_is_an_error(ingest):
    """A declared column that the reader does not yield is named."""
    with pytest.raises(SourceError, match="column hour is declared, but"):
        ingest(log_of(shuffled().drop(columns="hour")))


def test_a_log_without_events_is_an_error(ingest):
    """A log without a single event is an error, not an empty folder."""
    with pytest.raises(SourceError, match="not a single one to read"):
        ingest(log_of(shuffled().head(0)))


def test_a_small_simulation_is_ingested(tmp_path, monkeypatch):
    """The stage on a small simulation writes every impression and its true probabilities."""
    monkeypatch.chdir(tmp_path)
    small = {**PARAMS["dataset"]["simulation"], "impressions": 5000, "users": 300, "items": 100}
    Path("params.yaml").write_text(
        dump_yaml({**PARAMS, "dataset": {**PARAMS["dataset"], "simulation": small}}), encoding="utf-8"
    )
    run_ingest(schema=Path("data/schema.json"), out=Path("data/ingested"), truth=Path("data/truth"))
    events, truth = read_events(Path("data")), pd.read_parquet("data/truth/truth.parquet")
    assert events["event_id"].tolist() == truth["event_id"].tolist() == list(range(5000))
    assert events["timestamp"].is_monotonic_increasing
