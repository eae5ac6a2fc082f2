"""The command `features.draft`: a draft is a declaration that can be read, with its reasons and open decisions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import SourceError
from features.datasets import declared
from features.draft import draft
from tests.support import small_log

pytestmark = pytest.mark.unit


def _draft(folder: Path, *names: str) -> Path:
    out = folder / "drafted.yaml"
    draft(*(str(folder / name) for name in names), out=out)
    return out


def _lines(path: Path) -> dict[str, str]:
    """The line of each column, without indentation."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return {line.lstrip("# ").partition(":")[0]: line for line in lines}


def test_draft_is_read(tmp_path, capsys):
    """The draft of a log declares it: the rows, users and items of the files come out of it without an edit."""
    small_log.write(tmp_path)
    out = _draft(tmp_path, "log_1.csv", "log_2.csv", "users.csv", "items.parquet")
    log = declared.read(small_log.dataset(out))
    assert sum(map(len, log.chunks())) == 3000
    assert (len(log.users), len(log.items)) == (60, 40)
    assert log.schema.scenarios == tuple(str(tab) for tab in small_log.frames()["events"]["tab"].value_counts().index)
    assert "dataset.name=declared" in capsys.readouterr().out


def test_guesses(tmp_path):
    """Roles follow from names and values; what is known only after the impression is left out, with the reason."""
    small_log.write(tmp_path)
    lines = _lines(_draft(tmp_path, "log_1.csv", "log_2.csv", "users.csv", "items.parquet"))
    assert lines["timestamp"].startswith(
        'timestamp: {role: timestamp, sql: "to_timestamp(ts)"} # ts is a number: seconds'
    )
    assert lines["uid"].startswith("uid: user int64")
    assert lines["video"].startswith("video: item int64")
    assert lines["tab"].startswith('tab: {role: scenario, sql: "tab::varchar"')
    assert "DECIDE" in lines["tab"]
    assert lines["rating_high"].startswith('rating_high: {role: label, sql: "rating > 3"}')
    assert lines["device"].startswith("device: categorical string")
    assert lines["watch_seconds"].startswith("# watch_seconds: {role: label, task: regression, minimum: 0} # 0 to 99")
    assert "DECIDE: whether to predict it" in lines["watch_seconds"]
    assert lines["price"].startswith("price: numeric float32")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            ["a|b", "c", "a|c"],
            "place: {kind: multi_valued, type: string_list, length: 5, sql: \"string_split(place, '|')\"}",
        ),
        ([1.0, 2.0, None], "place: categorical int64 nullable"),
        ([0.5, 1.5, 2.5], "place: numeric float32"),
        ([-1, 3, 5], "place: categorical int64 # 3 different integers, -1 to 5; DECIDE: whether -1 means"),
        ([20260105, 20260106, 20260107], "# place: left out: dates as numbers"),
        (["one", "one", "one"], "# place: left out: it has one value only"),
        ([True, False, True], 'place: {kind: categorical, type: int64, sql: "place::int"}'),
    ],
)
def test_features(tmp_path, values, line):
    """Lists as text, codes, numbers, values that stand for a missing one, dates, constants and booleans."""
    events = small_log.frames(rows=300)["events"]
    events = events.assign(place=pd.Series(values)[np.arange(len(events)) % 3].to_numpy())
    events.to_parquet(tmp_path / "events.parquet")
    lines = _draft(tmp_path, "events.parquet").read_text()
    assert line in lines


@pytest.mark.parametrize(
    ("name", "values", "line"),
    [
        (
            "sample_weight",
            [0.5, 1.0, 2.5],
            "sample_weight: weight # 0.5 to 2.5, and its name is that of a weight; DECIDE: ",
        ),
        ("weight", [1, 2, None], 'weight: {role: weight, sql: "coalesce(weight, 1)"}'),
        ("weight_kg", [0.5, 1.0, 2.5], "weight_kg: numeric float32"),
        ("weight", [-1.0, 1.0, 2.5], "weight: numeric float32"),
    ],
)
def test_weights(tmp_path, name, values, line):
    """A column whose name and values are those of a weight is offered as one, 1 where it is missing."""
    events = small_log.frames(rows=300)["events"]
    events = events.assign(**{name: pd.Series(values)[np.arange(len(events)) % 3].to_numpy()})
    events.to_parquet(tmp_path / "events.parquet")
    assert line in _draft(tmp_path, "events.parquet").read_text()


def test_milliseconds_are_offered_as_seconds(tmp_path):
    """A watch time in milliseconds becomes a target in seconds; taken in, the declaration is read."""
    events = small_log.frames(rows=300)["events"].rename(columns={"watch_seconds": "play_time_ms"})
    events["play_time_ms"] = events["play_time_ms"].astype("Int64").mask(events["play_time_ms"] == 7)
    events.to_parquet(tmp_path / "events.parquet")
    out = _draft(tmp_path, "events.parquet")
    line = 'play_time_seconds: {role: label, task: regression, sql: "play_time_ms / 1000", nullable: true, minimum: 0}'
    assert f"# {line}" in out.read_text()
    out.write_text(out.read_text().replace(f"# {line}", line))
    log = declared.read(small_log.dataset(out))
    watched = pd.concat(list(log.chunks()))["play_time_seconds"].astype("float64")
    assert watched.max() == pytest.approx(0.099)
    assert watched.isna().sum() == events["play_time_ms"].isna().sum()
    assert log.schema.regressed == ("play_time_seconds",)


def test_no_overwriting(tmp_path):
    """A declaration that is there is never overwritten."""
    small_log.write(tmp_path)
    _draft(tmp_path, "log_1.csv")
    with pytest.raises(SourceError, match="exists already"):
        _draft(tmp_path, "log_1.csv")


def test_no_log(tmp_path):
    """Files without a user, an item and a timestamp are no log: the message says what was seen."""
    small_log.write(tmp_path)
    with pytest.raises(SourceError, match=r"found .*users\.csv: uid, age"):
        _draft(tmp_path, "users.csv")
    (tmp_path / "empty.parquet").write_bytes(b"")
    with pytest.raises(SourceError, match=r"empty\.parquet cannot be read"):
        _draft(tmp_path, "empty.parquet")


def test_a_file_without_a_header_needs_names(tmp_path):
    """The message shows the first row, and the argument that names the columns; with it the draft reads the file."""
    events = small_log.frames(rows=300)["events"][["uid", "video", "rating", "ts"]]
    lines = ["::".join(map(str, row)) for row in events.itertuples(index=False)]
    (tmp_path / "u.dat").write_text("\n".join(lines) + "\n")
    first = " \\| ".join(lines[0].split("::"))
    with pytest.raises(SourceError, match=f"no header, and 4 columns, the first row: {first}"):
        _draft(tmp_path, "u.dat")
    log = declared.read(small_log.dataset(_draft(tmp_path, "u.dat=uid, video, rating, ts")))
    assert pd.concat(log.chunks())["uid"].tolist() == events["uid"].tolist()


def test_texts_with_leading_zeros_are_no_numbers(tmp_path):
    """A column of digits in which a value begins with 0 is drafted as text."""
    events = small_log.frames(rows=300)["events"]
    events.assign(zip=[f"{number % 20:05d}" for number in range(len(events))]).to_csv(tmp_path / "log.csv", index=False)
    assert _lines(_draft(tmp_path, "log.csv"))["zip"].startswith("zip: categorical string")


def test_an_archive_is_refused(tmp_path):
    """An archive is to be unpacked: it is not guessed at as text."""
    (tmp_path / "log.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(SourceError, match="unpack it first"):
        _draft(tmp_path, "log.zip")


def test_what_gives_the_label_away_is_left_out(tmp_path):
    """A column from whose value a label follows, such as the flag of no click, is no feature."""
    events = small_log.frames(rows=300)["events"].drop(columns="rating")
    click = np.arange(len(events)) % 3 == 0
    events.assign(click=click.astype(int), skipped=(~click).astype(int)).to_csv(tmp_path / "log.csv", index=False)
    assert _lines(_draft(tmp_path, "log.csv"))["skipped"] == "# skipped: left out: the label click follows from it"


def test_ids_without_a_telling_name(tmp_path):
    """The key of another file comes first; then the columns with most values that repeat. A person decides."""
    events = small_log.frames(rows=300)["events"].rename(columns={"uid": "a", "video": "b"})
    events.to_csv(tmp_path / "log.csv", index=False)
    pd.DataFrame({"b": range(1, 41), "price": 1.5}).to_csv(tmp_path / "things.csv", index=False)
    lines = _lines(_draft(tmp_path, "log.csv", "things.csv"))
    assert "a: user int64" in lines["a"]
    assert lines["b"] == "b: item int64 # 40 different: the key of another file; DECIDE: whether it is the item"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["11/14/2019 9:05:58 AM", "11/15/2019 10:05:58 PM"], ", '%m/%d/%Y %I:%M:%S %p')"),
        (["14.11.2019 09:05", "15.11.2019 10:05"], ", '%d.%m.%Y %H:%M')"),
        (None, "to_timestamp(1577836800 + __position)"),
    ],
)
def test_times(tmp_path, values, line):
    """Texts are read by their format; without a time the position in the file is one, and a person decides."""
    events = small_log.frames(rows=300)["events"].drop(columns="ts")
    if values:
        events = events.assign(at=np.array(values)[np.arange(len(events)) % 2])
    events.to_parquet(tmp_path / "log.parquet")
    out = _draft(tmp_path, "log.parquet")
    assert line in _lines(out)["timestamp"]
    timestamps = pd.concat(declared.read(small_log.dataset(out)).chunks())["timestamp"]
    assert timestamps.notna().all()
    assert timestamps.nunique() == (2 if values else len(events))


@pytest.mark.parametrize("name", ["order", "like", "at", "left", "time", "position", "user", "Größe", "two words"])
def test_columns_called_as_words_of_sql(tmp_path, name):
    """The expressions of a draft name their columns, whatever these are called."""
    events = small_log.frames(rows=300)["events"].rename(columns={"device": name})
    events[name] = events[name] + "|" + events[name]
    events.to_parquet(tmp_path / "log.parquet")
    log = declared.read(small_log.dataset(_draft(tmp_path, "log.parquet")))
    assert {value for values in pd.concat(log.chunks())[name] for value in values} == {"ios", "android"}
