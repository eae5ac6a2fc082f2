"""The reader of a declared log: its rows are those of the files, in their order, exactly."""

import functools
import gzip
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import SourceError
from features.datasets import declared
from features.datasets.declared.reader import SHARE, WHERE
from features.datasets.log import ROW
from tests.support import small_log

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A declared log."""
    return small_log.write(tmp_path)


def _events(path: Path) -> pd.DataFrame:
    return pd.concat(declared.read(small_log.dataset(path)).chunks(), ignore_index=True)


def _change(path: Path, *changes: tuple[str, str]) -> Path:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def _expected(events: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "timestamp": pd.to_datetime(events["ts"], unit="s"),
            "uid": events["uid"],
            "video": events["video"],
            "scenario": np.where(events["tab"] == 1, "home", "search"),
            "device": events["device"],
            "click": events["rating"] > 3,
            "like": events["rating"] > 4,
        }
    ).reset_index(drop=True)


def _assert_equal(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(actual) == list(expected)
    for name in expected:
        assert actual[name].tolist() == expected[name].tolist(), name


def test_events(path):
    """Columns, expressions and conditions are those that pandas computes from the same files, in their order."""
    _assert_equal(_events(path), _expected(small_log.frames()["events"]))


def test_folder(path):
    """A folder stands for the file dataset.yaml in it."""
    assert len(_events(path.parent)) == 3000


def test_profiles(path):
    """Users and items are the rows of their files."""
    log, frames = declared.read(small_log.dataset(path)), small_log.frames()
    _assert_equal(log.users, frames["users"])
    _assert_equal(log.items, frames["items"])


def test_without_profiles(path):
    """Without tables of their own, users and items are the ids of the events, without a profile."""
    path.write_text(path.read_text().partition("users:")[0])
    log = declared.read(small_log.dataset(path))
    assert sorted(log.users["uid"]) == sorted(small_log.frames()["events"]["uid"].unique())
    assert [column.name for column in log.schema.items] == ["video"]


@pytest.mark.parametrize("condition", ["tab in (0, 1)", "tab = 0 or tab = 1"])
def test_where(path, condition):
    """Rows for which `where` is not true are left out and counted; the others keep their order, with `in`, too."""
    _change(path, ("files: log_*.csv", f"files: log_*.csv\n  where: {condition}"))
    log, events = declared.read(small_log.dataset(path)), small_log.frames()["events"]
    kept = events[events["tab"] < 2]
    _assert_equal(pd.concat(log.chunks(), ignore_index=True), _expected(kept))
    assert (log.counts.rows_read, log.counts.left_out[WHERE]) == (3000, 3000 - len(kept))


def test_user_share(path):
    """A share of the users is drawn: all events of a user or none, the same ones every time."""
    _change(path, ("files: log_*.csv", "files: log_*.csv\n  user_share: 0.5"))
    log = declared.read(small_log.dataset(path))
    drawn = pd.concat(log.chunks())
    events = small_log.frames()["events"]
    users = set(drawn["uid"])
    assert 15 <= len(users) <= 45
    assert len(drawn) == events["uid"].isin(users).sum() == 3000 - log.counts.left_out[SHARE]
    assert set(_events(path)["uid"]) == users


def test_missing_values(path):
    """Values of `null_if` are read as missing and counted."""
    users = small_log.frames()["users"].assign(age=lambda frame: frame["age"].where(frame["uid"] > 5, -1))
    small_log.write(path.parent, users=users)
    _change(path, ("age: numeric int64 nullable", "age: {kind: numeric, type: int64, nullable: true, null_if: [-1]}"))
    log = declared.read(small_log.dataset(path))
    assert log.users["age"].isna().sum() == log.counts.made_null["age"] == 5


def test_repeated_rows(path):
    """With `repeated_rows: drop` equal raw rows have the same fingerprint, others another one."""
    events = small_log.frames()["events"]
    small_log.write(path.parent, events=pd.concat([events, events.tail(7)]))
    _change(path, ("files: log_*.csv", "files: log_*.csv\n  repeated_rows: drop"))
    actual = _events(path)
    assert len(actual) == 3007
    assert actual[ROW].nunique() == len(events.drop_duplicates())


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv.gz", "tsv", "parquet"])
def test_formats(path, ending):
    """CSV, tab-separated, JSON lines and Parquet, compressed or not, hold the same rows."""
    events = small_log.frames()["events"]
    for file in path.parent.glob("log_*"):
        file.unlink()
    target = path.parent / f"log_1.{ending}"
    if ending == "parquet":
        events.to_parquet(target)
    else:
        separated = events.to_csv(index=False, sep="\t" if ending == "tsv" else ",")
        text = events.to_json(orient="records", lines=True) if "jsonl" in ending else separated
        target.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    _change(path, ("log_*.csv", f"log_*.{ending}"))
    _assert_equal(_events(path), _expected(events))


def test_http(path):
    """Files are read from an HTTP server as from a folder."""
    handler = functools.partial(_Files, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        _change(path, ("log_*.csv", f"['{address}/log_1.csv', '{address}/log_2.csv']"))
        _assert_equal(_events(path), _expected(small_log.frames()["events"]))
        server.shutdown()


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a line in the output for each request."""

    def log_message(self, *_):
        """Write nothing."""


def test_large_ids(path):
    """Ids beyond 2^53 are exact, with missing values beside them."""
    ids = [2**53 + 1, 2**62 + 3, None]
    rows = [
        {"ts": small_log.FIRST + n, "uid": 1, "video": 1, "tab": 1, "device": "a", "rating": 5, "session": s}
        for n, s in enumerate(ids)
    ]
    for file in path.parent.glob("log_*"):
        file.unlink()
    (path.parent / "log_1.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _change(path, ("log_*.csv", "log_*.jsonl"), ("device: categorical string", "session: categorical int64 nullable"))
    assert [None if pd.isna(value) else int(value) for value in _events(path)["session"]] == ids


def test_time_zone(path):
    """A timestamp without a zone is of the declared zone, and stored in UTC."""
    events = small_log.frames()["events"]
    events["ts"] = pd.to_datetime(events["ts"], unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    small_log.write(path.parent, events=events)
    _change(
        path, ("sql: to_timestamp(ts)}", "sql: ts}"), ("files: log_*.csv", "files: log_*.csv\n  time_zone: Asia/Tokyo")
    )
    expected = pd.to_datetime(events["ts"]) - pd.Timedelta(hours=9)
    assert _events(path)["timestamp"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sql: to_timestamp(ts)", "sql: ts", "column timestamp: a timestamp, found numbers"),
        ("uid: user int64", "uid: {role: user, type: int64, sql: device}", "column uid is int64, found ios"),
        ("uid: user int64", "uid: {role: user, type: int64, sql: uid + 0.5}", "column uid is int64, found"),
        ("sql: rating > 3", "sql: rating + 1000", "Type INT"),
        ("sql: rating > 3", "sql: raiting > 3", "raiting"),
        ("log_*.csv", "events_*.csv", "no file matches 'events_*.csv'"),
        ("log_*.csv", "[log_1.csv, items.parquet]", "expected one format"),
    ],
)
def test_what_does_not_fit(path, old, new, message):
    """A value that does not fit its type, a column or file that is not there: an error that names it."""
    with pytest.raises(SourceError) as raised:
        _events(_change(path, (old, new)))
    assert message in str(raised.value)
    assert str(path) in str(raised.value) or "column" in str(raised.value)


def _lines(path: Path, frame: pd.DataFrame, separator: str) -> None:
    """Lines without a header, the fields between separators."""
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in frame.itertuples(index=False)))


def test_files_without_a_header(path):
    """Options of DuckDB's reader say how files of another ending are read: delimiter, names, encoding."""
    events = small_log.frames()["events"]
    _lines(path.parent / "log.dat", events, "::")
    names = ", ".join(events)
    read = f'files: log.dat\n  format: csv\n  read: {{delim: "::", header: false, names: [{names}]}}'
    _change(path, ("files: log_*.csv", read))
    _assert_equal(_events(path), _expected(events))


def test_an_unknown_option_is_named(path):
    """An option that DuckDB's reader does not have is refused by its name."""
    _change(path, ("files: log_*.csv", "files: log_*.csv\n  read: {limiter: ;}"))
    with pytest.raises(SourceError, match="limiter"):
        _events(path)


@pytest.mark.parametrize(("name", "message"), [("log.dat", "format: csv"), ("log.zip", "unpack it first")])
def test_an_unknown_ending_is_refused(path, name, message):
    """A file whose ending says nothing is not guessed at: the message says what to declare."""
    (path.parent / name).write_text("a\n1\n")
    _change(path, ("files: log_*.csv", f"files: {name}"))
    with pytest.raises(SourceError, match=message):
        _events(path)


def test_texts_keep_their_zeros(path):
    """A column that is declared as text is read as it is written: 007 and 7 are two users."""
    events = small_log.frames()["events"]
    events = events.assign(uid=[f"{uid:03d}" if uid % 2 else str(uid) for uid in events["uid"]])
    users = pd.DataFrame({"uid": sorted(events["uid"].unique()), "age": 30})
    small_log.write(path.parent, events=events, users=users)
    _change(path, ("uid: user int64", "uid: user string"))
    assert _events(path)["uid"].tolist() == events["uid"].tolist()
    assert declared.read(small_log.dataset(path)).users["uid"].tolist() == users["uid"].tolist()


def test_query(path):
    """A query gives the raw rows: a scenario out of the user's profile, and an item for each in a list that was shown.

    The result is the same each time, and counted.
    """
    events = small_log.frames()["events"].drop(columns="tab")
    shown = events.groupby(events.index // 3).agg(
        {
            "ts": "first",
            "uid": "first",
            "device": "first",
            "video": lambda ids: " ".join(map(str, ids)),
            "rating": "max",
        }
    )
    shown.to_csv(path.parent / "shown.csv", index=False)
    query = (
        "select raw.* exclude (video), unnest(string_split(video, ' '))::bigint as video, (age > 40)::int as tab "
        "from raw join users using (uid)"
    )
    _change(path, ("files: log_*.csv", f'files: shown.csv\n  query: "{query}"'))
    log = declared.read(small_log.dataset(path))
    read = pd.concat(log.chunks(), ignore_index=True)
    assert log.counts.rows_read == len(read) == len(events)
    assert sorted(read["video"]) == sorted(events["video"])
    ages = small_log.frames()["users"].set_index("uid")["age"]
    assert (read["scenario"] == np.where(read["uid"].map(ages) > 40, "home", "search")).all()
    pd.testing.assert_frame_equal(read, _events(path))


def test_first_rows_are_not_skipped(path):
    """First rows with other fields than the rest are an error, unless `read: {skip: 1}` says that they are notes."""
    log = path.parent / "log_1.csv"
    log.write_text("a note\n" + log.read_text())
    with pytest.raises(SourceError, match=r"log_1\.csv|column"):
        _events(path)
    rest = path.parent / "log_2.csv"
    rest.write_text("a note\n" + rest.read_text())
    _change(path, ("files: log_*.csv", "files: log_*.csv\n  read: {skip: 1}"))
    _assert_equal(_events(path), _expected(small_log.frames()["events"]))


@pytest.mark.parametrize("kind", ["tinyint", "smallint", "ubigint", "uhugeint", "float", "double", "decimal(18, 3)"])
def test_a_number_is_no_timestamp(path, kind):
    """A number of whatever type is refused as a timestamp, with what to write instead."""
    _change(path, ("sql: to_timestamp(ts)", f'sql: "1::{kind}"'))
    with pytest.raises(SourceError, match=r"column timestamp: a timestamp, found numbers .*say what they are"):
        _events(path)
