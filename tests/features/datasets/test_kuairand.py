"""The reader of KuaiRand-Pure, on a tiny archive in the official layout."""

import os
from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError
from common.params import Dataset
from common.paths import ARCHIVES
from features.datasets import kuairand
from features.datasets.log import ROW
from features.schema import FEATURE_ROLES
from tests.support.kuairand_archive import FIRST, dataset, write

pytestmark = pytest.mark.unit


def events(source: Dataset) -> pd.DataFrame:
    """All chunks as one frame."""
    return pd.concat(kuairand.read(source).chunks(), ignore_index=True)


def test_events(tmp_path):
    """Every standard log is read; a row gives tab, hour in Beijing, timestamp in UTC, and three labels."""
    write(tmp_path)
    expected = pd.DataFrame(
        {
            "timestamp": pd.to_datetime([1650812741436, 1650834000000, 1650812741436, 1650812741436], unit="ms"),
            "user_id": [7, 8, 7, 7],
            "video_id": [1, 2, 1, 1],
            "tab": ["1", "0", "1", "1"],
            "hour": [23, 5, 23, 23],
            "click": [1, 0, 1, 1],
            "long_view": [1, 0, 1, 1],
            "like": [0, 1, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(events(dataset(tmp_path)).drop(columns=ROW), expected, check_dtype=False)


def test_duplicates_have_the_same_fingerprint(tmp_path):
    """A row that equals another in all columns has its fingerprint; one with another play time has not."""
    write(tmp_path)
    first, _, repeat, other = events(dataset(tmp_path))[ROW]
    assert first == repeat != other


def test_other_tabs_are_counted(tmp_path):
    """Rows of tabs that are no scenario are left out and counted, tab by tab."""
    write(tmp_path)
    log = kuairand.read(dataset(tmp_path))
    assert sum(map(len, log.chunks())) == 4
    assert (log.counts.rows_read, dict(log.counts.left_out)) == (5, {"tab 12": 1})


def test_random_log_on_request(tmp_path):
    """The random log is another policy: it is read only where params.yaml names it."""
    write(tmp_path)
    assert len(events(dataset(tmp_path, logs=("standard", "random")))) == 5
    assert len(events(dataset(tmp_path, logs=("random",)))) == 1


def test_unknown_values(tmp_path):
    """-124 stands for unknown: negative codes and counts are read as missing, and counted by column."""
    write(tmp_path)
    log = kuairand.read(dataset(tmp_path))
    assert log.users["is_live_streamer"].isna().tolist() == [False, True]
    assert log.users["follow_user_num"].isna().tolist() == [False, True]
    assert log.counts.made_null == {"is_live_streamer": 1, "follow_user_num": 1}


def test_tags(tmp_path):
    """A video has several tags, one, or none."""
    write(tmp_path)
    assert kuairand.read(dataset(tmp_path)).items["tag"].tolist() == [[39], [20, 43], []]


def test_labels_are_no_features():
    """27 categorical fields and 4 numbers of the user; nothing that is known only after the impression."""
    schema = kuairand.declare(dataset(ARCHIVES))
    kinds = [column.kind for column in schema.users if column.role in FEATURE_ROLES]
    assert (kinds.count("categorical"), kinds.count("numeric")) == (27, 4)
    assert {c.name for c in schema.events if c.is_feature} == {"user_id", "video_id", "tab", "hour"}
    assert [task.requires for task in schema.tasks] == [None, None, None]


@pytest.mark.parametrize("name", ["user_features_pure", "video_features_basic_pure"])
def test_missing_file_is_named(tmp_path, name):
    """An archive without users or videos is refused with the name of the file."""
    write(tmp_path, **{name: None})
    with pytest.raises(SourceError, match=f"lacks {name}.csv"):
        kuairand.read(dataset(tmp_path))


def test_missing_log_is_named(tmp_path):
    """An archive without the requested log is refused."""
    write(tmp_path, log_random_4_22_to_5_08_pure=None)
    with pytest.raises(SourceError, match=r"no log_random_\*.csv"):
        kuairand.read(dataset(tmp_path, logs=("standard", "random")))


def test_missing_column_is_named(tmp_path):
    """A log without one of its columns is refused with the name of the column."""
    write(tmp_path, log_standard_4_08_to_4_21_pure=FIRST.replace("time_ms,is_click", "time,is_click"))
    with pytest.raises(SourceError, match=r"lacks the columns \['time_ms'\]"):
        events(dataset(tmp_path))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(tmp_path, share):
    """An archive whose end is missing is refused, at the latest when its end is read."""
    made = write(tmp_path)
    made.write_bytes(made.read_bytes()[: int(share * made.stat().st_size)])
    with pytest.raises(SourceError):
        events(dataset(tmp_path))


@pytest.mark.skipif("HINET_DATA" not in os.environ, reason="HINET_DATA: folder with the official archives")
def test_the_official_archive():
    """The slice of two weeks has 228,329 rows, 5,460 of them repeats; the whole standard log has 1,436,609."""
    tabs = tuple(str(tab) for tab in range(15))
    source = kuairand.read(dataset(Path(os.environ["HINET_DATA"]), scenarios=tabs))
    frame = pd.concat(source.chunks())
    assert source.counts.rows_read in (228_329, 1_436_609)
    if source.counts.rows_read == 228_329:
        assert frame.duplicated().sum() == 5_460
    assert (len(source.users), len(source.items)) == (27_285, 7_583)
