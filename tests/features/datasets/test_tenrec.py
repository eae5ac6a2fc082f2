"""The reader of Tenrec's QK-video, on a tiny file in the official layout."""

import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import SourceError
from common.paths import ARCHIVES
from features.datasets import tenrec
from features.datasets.log import Log
from features.schema import FEATURE_ROLES, Kind
from tests.support.tenrec_file import COLUMNS, ROWS, dataset, many, write

pytestmark = pytest.mark.unit


def events(log: Log) -> pd.DataFrame:
    """All chunks as one frame."""
    return pd.concat(log.chunks(), ignore_index=True)


@pytest.mark.parametrize("compressed", [False, True])
def test_events(tmp_path, compressed):
    """Compressed or not: timestamp by position in the file, the category as scenario, two labels, nothing else."""
    write(tmp_path, compressed=compressed)
    expected = pd.DataFrame(
        {
            "timestamp": pd.date_range("2022-01-01", periods=8, freq="100ms"),
            "user_id": [1, 1, 1, 1, 2, 2, 2, 5],
            "item_id": [4, 1201, 9, 7, 7, 9, 8, 8],
            "video_category": ["1", "1", "0", "0", "0", "0", "missing", "missing"],
            "click": [0, 1, 0, 0, 0, 1, 0, 0],
            "like": [0, 0, 1, 0, 0, 1, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(events(tenrec.read(dataset(tmp_path))), expected, check_dtype=False)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_users(tmp_path, monkeypatch, chunk):
    """One row per user: gender, age, and the history, oldest first as in the file, without its padding."""
    monkeypatch.setattr(tenrec, "_CHUNK", chunk)
    write(tmp_path)
    users = tenrec.read(dataset(tmp_path)).users
    histories = [[2, 3, 80936, 781, 111774, 1230, 26403, 991, 2362, 1202], [4, 2], []]
    assert [list(history) for history in users["history"]] == histories
    assert users.drop(columns="history").to_dict("list") == {
        "user_id": [1, 2, 5],
        "gender": [1, 0, 2],
        "age": [4, 0, 7],
    }


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_scenario_of_another_column(tmp_path, monkeypatch, chunk):
    """Gender may be the scenario: rows of other values are counted, and the category is the video's profile."""
    monkeypatch.setattr(tenrec, "_CHUNK", chunk)
    write(tmp_path)
    log = tenrec.read(dataset(tmp_path, scenario="gender", scenarios=["0", "2"]))
    assert events(log)["gender"].tolist() == ["0", "0", "0", "2"]
    assert +log.counts.left_out == {"gender 1": 4}
    assert log.items.to_dict("list") == {"item_id": [7, 9, 8], "video_category": ["0", "0", "missing"]}
    assert [column.name for column in log.schema.users] == ["user_id", "age", "history"]
    assert [column.name for column in log.schema.items] == ["item_id", "video_category"]


@pytest.mark.parametrize("chunk", [40, 400, 10_000])
def test_two_negatives_per_click(tmp_path, monkeypatch, chunk):
    """Every click, and exactly twice as many rows without one, whatever the chunks; the others are counted."""
    monkeypatch.setattr(tenrec, "_CHUNK", chunk)
    write(tmp_path, many())
    whole = events(tenrec.read(dataset(tmp_path)))
    log = tenrec.read(dataset(tmp_path, negatives_per_click=2.0))
    sampled = events(log)
    pd.testing.assert_frame_equal(*(every[every["click"] == 1].reset_index(drop=True) for every in (sampled, whole)))
    clicks = int(whole["click"].sum())
    assert (sampled["click"] == 0).sum() == 2 * clicks
    assert len(sampled.merge(whole)) == len(sampled)
    assert log.counts.rows_read == len(whole) == 3000
    assert log.counts.left_out == {"click 0 and not sampled": 3000 - 3 * clicks}
    assert log.rows == len(sampled)
    assert sampled["timestamp"].is_monotonic_increasing


def test_negatives_are_of_the_scenarios_only(tmp_path):
    """Where a category is left out, the two negatives per click are of the other categories."""
    write(tmp_path, many())
    sampled = events(tenrec.read(dataset(tmp_path, negatives_per_click=2.0, scenarios=["0", "1"])))
    assert Counter(sampled["click"])[0] == 2 * Counter(sampled["click"])[1]
    assert set(sampled["video_category"]) == {"0", "1"}


def test_sampling_is_by_seed(tmp_path):
    """One seed gives one sample, another gives another."""
    write(tmp_path, many())
    first, again, other = (events(tenrec.read(dataset(tmp_path, negatives_per_click=2.0, seed=s))) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert first["timestamp"].tolist() != other["timestamp"].tolist()


def test_every_set_is_equally_likely():
    """In chunks of three rows, three and one, each of the 35 sets of 4 of 7 rows is drawn as often as another."""
    random, seen = np.random.default_rng(0), Counter()
    for _ in range(7000):
        sample, sampled, negatives = [], 4, 7
        for rows in (np.arange(3), np.arange(3, 6), np.arange(6, 7)):
            drawn = tenrec.draw(random, rows, sampled=sampled, negatives=negatives)
            sampled, negatives = sampled - len(drawn), negatives - len(rows)
            sample += sorted(drawn.tolist())
        seen[tuple(sample)] += 1
    assert len(seen) == 35
    assert all(150 < times < 260 for times in seen.values())


def test_seven_fields():
    """The features are ids, category, gender, age and history; no label and no position in the file."""
    schema = tenrec.declare(dataset(ARCHIVES))
    columns = {c.name: c for table in schema.tables.values() for c in table if c.role in FEATURE_ROLES}
    assert set(columns) == {"user_id", "item_id", "video_category", "gender", "age", "history"}
    history = columns["history"]
    assert (history.kind, history.vocabulary, history.length) == (Kind.SEQUENCE, "item_id", 10)
    assert [(task.name, task.requires) for task in schema.tasks] == [("click", None), ("like", None)]


def test_without_a_path(tmp_path, monkeypatch):
    """In the project's own folder nothing is downloaded: the message names the form, the file and its folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"form at https://tenrec0.github.io, put Tenrec.zip .* set dataset.path"):
        tenrec.read(dataset(ARCHIVES))


def test_no_file_at_path(tmp_path):
    """A path without the file: the message names the accepted files and the content of the folder."""
    (tmp_path / "QK-video.csv").touch()
    with pytest.raises(SourceError, match=r"no ctr_data_1M.csv or Tenrec.zip in it \(found: \['QK-video.csv'\]\)"):
        tenrec.read(dataset(tmp_path))


def test_archive_without_the_file(tmp_path):
    """An archive that holds other files of Tenrec only is refused with the name of the one that is missing."""
    with zipfile.ZipFile(tmp_path / tenrec.ARCHIVE, "w") as made:
        made.writestr("Tenrec/QK-video.csv", COLUMNS)
    with pytest.raises(SourceError, match=r"(?s)lacks ctr_data_1M.csv.*It holds QK-video.csv"):
        tenrec.read(dataset(tmp_path))


def test_missing_column_is_named(tmp_path):
    """A file without one of its columns (an older release has short_v) is refused with its name."""
    write(tmp_path, columns=COLUMNS.replace("video_category", "short_v"))
    with pytest.raises(SourceError, match=r"lacks the columns \['video_category'\]; it has .*'short_v'"):
        tenrec.read(dataset(tmp_path))


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:-30],
        ROWS.replace("1,1201", "1,first"),
        ROWS.replace("\n", ",7\n"),
        ROWS.replace("1202\n1,9", "12021,9"),
    ],
)
def test_broken_rows(tmp_path, rows):
    """Rows that are truncated, too long, or hold words instead of numbers are refused as not in the official layout."""
    write(tmp_path, rows)
    with pytest.raises(SourceError, match="not in its official layout"):
        tenrec.read(dataset(tmp_path))


def test_truncated_archive(tmp_path):
    """An archive whose end is missing is refused by its name."""
    made = write(tmp_path, many(), compressed=True)
    made.write_bytes(made.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"Tenrec.zip cannot be read to its end"):
        tenrec.read(dataset(tmp_path))


@pytest.mark.parametrize(("rows", "scenarios"), [("", ["0"]), (ROWS, ["2"])])
def test_no_rows(tmp_path, rows, scenarios):
    """A header alone, or scenarios that no row has, are refused."""
    write(tmp_path, rows)
    with pytest.raises(SourceError, match="no row whose video_category is one of"):
        tenrec.read(dataset(tmp_path, scenarios=scenarios))


@pytest.mark.skipif("HINET_DATA" not in os.environ, reason="HINET_DATA: folder with the official archives")
@pytest.mark.skipif(
    not any((Path(os.environ.get("HINET_DATA", "")) / name).is_file() for name in (tenrec.FILE, tenrec.ARCHIVE)),
    reason="Tenrec is not there: its owner requires a licence form",
)
def test_the_official_file():
    """120,342,306 rows, of which 28,880,860 clicks and twice as many others are read; 999,447 users."""
    log = tenrec.read(dataset(Path(os.environ["HINET_DATA"]), negatives_per_click=2.0))
    assert (len(log.users), len(log.items), log.rows) == (999_447, 2_310_087, 86_642_580)
    assert sum(map(len, log.chunks())) == 86_642_580
    assert log.counts.rows_read == 120_342_306
