"""The reader of MovieLens-1M, on a tiny archive in the official layout."""

import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError
from common.params import Dataset
from features.datasets import archive, movielens
from features.datasets.log import ROW
from features.schema import FEATURE_ROLES

USERS = "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117-1234\n4::F::18::0::01234\n"
MOVIES = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Alien: Part 2 :: Café (1986)::Action|Sci-Fi\n"
RATINGS = "1::1::5::978300760\n2::1::4::978302109\n3::2::3::978301968\n4::2::1::978300275\n9::2::5::978300276\n"


def write(folder: Path, **files: str) -> Path:
    """ml-1m.zip in `folder`, with the official files or those given instead (None: without it)."""
    texts = {"ratings": RATINGS, "users": USERS, "movies": MOVIES, **files}
    with zipfile.ZipFile(folder / "ml-1m.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in texts.items():
            if text is not None:
                made.writestr(f"ml-1m/{name}.dat", text.encode("latin-1", "surrogateescape"))
    return folder / "ml-1m.zip"


def dataset(folder: Path) -> Dataset:
    """The part of params.yaml that the reader looks at."""
    return Dataset.model_construct(name="movielens-1m", path=str(folder))


def test_events(tmp_path):
    """Click is a rating above 3, like one above 4, the scenario is the user's age; the rating itself is gone."""
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
    """Zip codes keep their zeros, and titles with colons and accents do not confuse the first genre."""
    write(tmp_path)
    log = movielens.read(dataset(tmp_path))
    assert log.users["zip_code"].tolist() == ["48067", "70072", "55117-1234", "01234"]
    assert log.items.to_dict("list") == {"movie_id": [1, 2], "genre": ["Animation", "Action"]}


def test_unknown_user_is_counted(tmp_path):
    """A rating by somebody who is not in users.dat has no scenario: left out, and counted."""
    write(tmp_path)
    log = movielens.read(dataset(tmp_path))
    assert sum(map(len, log.chunks())) == 4
    assert (log.counts.rows_read, log.counts.left_out["user is not in users.dat"]) == (5, 1)


def test_eight_fields():
    """A model may see exactly the eight fields of the protocol: no title, no time, no rating."""
    schema = movielens.declare(dataset(archive.KEPT))
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
    """A path without the archive: the message says which file belongs there and what was found."""
    (tmp_path / "other.zip").touch()
    with pytest.raises(SourceError, match=r"no ml-1m.zip in it \(found: \['other.zip'\]\)"):
        movielens.read(dataset(tmp_path))
    with pytest.raises(SourceError, match="no such folder"):
        movielens.read(dataset(tmp_path / "nowhere"))


@pytest.fixture
def official(tmp_path, monkeypatch):
    """The official address, moved to a file of the test; downloads are kept under the test's folder."""
    (tmp_path / "server").mkdir()
    made = write(tmp_path / "server")
    monkeypatch.setattr(archive, "KEPT", tmp_path / "kept")
    return archive.Archive(name=made.name, url=made.as_uri(), md5=archive.digest(made))


def test_download_once(official, tmp_path):
    """Without a path the archive is downloaded, checked and kept; the second time it is found there."""
    found = archive.find(official, str(archive.KEPT))
    assert found == tmp_path / "kept" / "ml-1m.zip"
    (tmp_path / "server" / "ml-1m.zip").unlink()
    assert archive.find(official, str(archive.KEPT)) == found
    assert [entry.name for entry in (tmp_path / "kept").iterdir()] == ["ml-1m.zip"]


def test_download_of_something_else(official, tmp_path):
    """A download with another checksum is refused and leaves nothing behind."""
    (tmp_path / "server" / "ml-1m.zip").write_bytes(b"<html>moved</html>")
    with pytest.raises(SourceError, match=r"MD5 .* expected, .* found"):
        archive.find(official, str(archive.KEPT))
    assert list((tmp_path / "kept").iterdir()) == []


def test_no_network(official, tmp_path):
    """Neither archive nor network: the message says which file to put where, and how to set dataset.path."""
    (tmp_path / "server" / "ml-1m.zip").unlink()
    with pytest.raises(SourceError, match=r"put ml-1m.zip into a folder of yours and set dataset.path"):
        archive.find(official, str(archive.KEPT))


@pytest.mark.skipif("HINET_DATA" not in os.environ, reason="HINET_DATA: folder with the official archives")
def test_the_real_one():
    """MovieLens-1M has 1,000,209 ratings: 210,747, 395,556 and 393,906 in the three scenarios."""
    log = movielens.read(dataset(Path(os.environ["HINET_DATA"])))
    rows = pd.concat(chunk["scenario"] for chunk in log.chunks()).value_counts()
    assert rows.to_dict() == {"S1": 210_747, "S2": 395_556, "S3": 393_906}
    assert (len(log.users), len(log.items)) == (6040, 3883)
