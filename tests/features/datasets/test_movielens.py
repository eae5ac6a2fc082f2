"""The reader of MovieLens-1M, on a tiny archive in the official layout."""

import os
from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError
from common.paths import ARCHIVES
from features.datasets import movielens
from features.datasets.log import ROW
from features.schema import FEATURE_ROLES
from tests.support.movielens_archive import RATINGS, dataset, write

pytestmark = pytest.mark.unit


def test_events(tmp_path):
    """Click is a rating above 3, like one above 4, the scenario is the user's age; the rating itself is no column."""
    write(tmp_path)
    log = movielens.read(dataset(tmp_path))
    expected = pd.DataFrame(
        {
            "timestamp": pd.to_datetime([978300760, 978302109, 978301968, 978300275], unit="s"),
            "user_id": [1, 2, 3, 4],
            "movie_id": [1, 1, 2, 2],
            "scenario": ["S1", "S3", "S2", "S1"],
            "click": [1, 1, 0, 0],
            "like": [1, 0, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(pd.concat(log.chunks()).drop(columns=ROW), expected, check_dtype=False)


def test_users_and_movies(tmp_path):
    """Zip codes keep their leading zeros; titles with colons and accents do not affect the first genre."""
    write(tmp_path)
    log = movielens.read(dataset(tmp_path))
    assert log.users["zip_code"].tolist() == ["48067", "70072", "55117-1234", "01234"]
    assert log.items.to_dict("list") == {"movie_id": [1, 2], "genre": ["Animation", "Action"]}


def test_unknown_user_is_counted(tmp_path):
    """A rating by a user who is not in users.dat has no scenario: it is left out and counted."""
    write(tmp_path)
    log = movielens.read(dataset(tmp_path))
    assert sum(map(len, log.chunks())) == 4
    assert (log.counts.rows_read, log.counts.left_out["user is not in users.dat"]) == (5, 1)


def test_eight_fields():
    """The features are exactly the eight fields of the protocol: no title, no time, no rating."""
    schema = movielens.declare(dataset(ARCHIVES))
    names = {c.name for table in schema.tables.values() for c in table if c.role in FEATURE_ROLES}
    assert names == {"user_id", "movie_id", "scenario", "gender", "age", "occupation", "zip_code", "genre"}
    assert [(task.name, task.requires) for task in schema.tasks] == [("click", None), ("like", "click")]


@pytest.mark.parametrize("name", ["ratings", "users", "movies"])
def test_missing_file_is_named(tmp_path, name):
    """An archive without one of its files is refused with the name of that file."""
    write(tmp_path, **{name: None})
    with pytest.raises(SourceError, match=f"lacks ml-1m/{name}.dat"):
        movielens.read(dataset(tmp_path))


def test_truncated(tmp_path):
    """An archive whose end is missing is refused by its name."""
    made = write(tmp_path)
    made.write_bytes(made.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"ml-1m.zip cannot be read to its end"):
        movielens.read(dataset(tmp_path))


def test_foreign_layout(tmp_path):
    """Ratings that are not numbers are refused as not in the official layout."""
    write(tmp_path, ratings="1::1::five::978300760\n")
    with pytest.raises(SourceError, match="not in its official layout"):
        list(movielens.read(dataset(tmp_path)).chunks())


def test_unknown_age(tmp_path):
    """An age that is no official code belongs to no scenario and is refused."""
    write(tmp_path, users="1::F::19::10::48067\n")
    with pytest.raises(SourceError, match=r"age codes \[19\]"):
        movielens.read(dataset(tmp_path))


def test_no_archive_at_path(tmp_path):
    """A path without the archive: the message says which file belongs there and what the folder holds."""
    (tmp_path / "other.zip").touch()
    with pytest.raises(SourceError, match=r"no ml-1m.zip in it \(found: \['other.zip'\]\)"):
        movielens.read(dataset(tmp_path))
    with pytest.raises(SourceError, match="no such folder"):
        movielens.read(dataset(tmp_path / "nowhere"))


def test_ratings_in_milliseconds_are_an_error(tmp_path):
    """Timestamps in milliseconds, as other releases of the ratings have them, are named as such."""
    write(tmp_path, ratings=RATINGS.replace("\n", "000\n"))
    with pytest.raises(SourceError, match=r"expected timestamps in seconds .*978300760000, which are milliseconds"):
        list(movielens.read(dataset(tmp_path)).chunks())


@pytest.mark.skipif("HINET_DATA" not in os.environ, reason="HINET_DATA: folder with the official archives")
def test_the_official_archive():
    """MovieLens-1M has 1,000,209 ratings: 210,747, 395,556 and 393,906 in the three scenarios."""
    log = movielens.read(dataset(Path(os.environ["HINET_DATA"])))
    rows = pd.concat(chunk["scenario"] for chunk in log.chunks()).value_counts()
    assert rows.to_dict() == {"S1": 210_747, "S2": 395_556, "S3": 393_906}
    assert (len(log.users), len(log.items)) == (6040, 3883)
