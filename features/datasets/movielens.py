"""MovieLens-1M as three scenarios (by the user's age) and two tasks: 1,000,209 ratings.

    click = rating > 3, like = rating > 4; S1 = age codes 1 and 18, S2 = 25, S3 = 35 and above.

The rating is the label and its timestamp only orders the rows: neither is a feature. The inputs of a model are the
eight fields of the published protocol: user, movie, gender, age, occupation, zip code, first genre, scenario.
Owner: GroupLens, University of Minnesota; research use only, no redistribution.
"""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from common.errors import SourceError
from common.params import Dataset
from features.datasets import archive
from features.datasets.log import ROW, Counts, Log, seconds_of
from features.datasets.timestamps import from_epoch
from features.schema import Column, DType, Kind, Role, Schema, Task

ARCHIVE = archive.Archive(
    name="ml-1m.zip",
    url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    md5="c4d9eecfca2ab87c1945afe126590906",
)
SCENARIO_OF_AGE = {1: "S1", 18: "S1", 25: "S2", 35: "S3", 45: "S3", 50: "S3", 56: "S3"}  # codes: lowest age of a band
SCENARIOS = ("S1", "S2", "S3")
GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_RATINGS, _USERS, _MOVIES = "ml-1m/ratings.dat", "ml-1m/users.dat", "ml-1m/movies.dat"
_CHUNK = 200_000  # rows
_FIRST_DAY, _END = "2000-04-25", "2003-03-01"  # of the ratings


def declare(dataset: Dataset) -> Schema:
    """Eight categorical fields, three scenarios, click and like (like only where click)."""
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(
            name="timestamp",
            role=Role.TIMESTAMP,
            dtype=DType.TIMESTAMP,
            minimum=seconds_of(_FIRST_DAY),
            maximum=seconds_of(_END),
            desc="time of the rating",
        ),
        _categorical("user_id", Role.USER, DType.INT64),
        _categorical("movie_id", Role.ITEM, DType.INT64),
        _categorical("scenario", Role.SCENARIO, DType.STRING, values=SCENARIOS, desc="band of the user's age"),
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, values=(0, 1), desc="rating > 3"),
        Column(name="like", role=Role.LABEL, dtype=DType.INT8, values=(0, 1), desc="rating > 4"),
    )
    users = (
        _categorical("user_id", Role.USER, DType.INT64),
        _categorical("gender", Role.FEATURE, DType.STRING, values=("F", "M")),
        _categorical("age", Role.FEATURE, DType.INT64, values=tuple(SCENARIO_OF_AGE), desc="lowest age of the band"),
        _categorical("occupation", Role.FEATURE, DType.INT64, values=tuple(range(21))),
        _categorical("zip_code", Role.FEATURE, DType.STRING),
    )
    items = (
        _categorical("movie_id", Role.ITEM, DType.INT64),
        _categorical("genre", Role.FEATURE, DType.STRING, values=GENRES, desc="the first genre"),
    )
    tasks = (Task(name="click", desc="rating > 3"), Task(name="like", requires="click", desc="rating > 4"))
    return Schema(name=dataset.name, scenarios=SCENARIOS, tasks=tasks, events=events, users=users, items=items)


def _categorical(
    name: str, role: Role, dtype: DType, *, values: tuple[str | int, ...] | None = None, desc: str = ""
) -> Column:
    return Column(name=name, role=role, dtype=dtype, kind=Kind.CATEGORICAL, values=values, desc=desc)


def read(dataset: Dataset) -> Log:
    """The log out of `ml-1m.zip`, never unpacked; raises SourceError where it is missing or incomplete."""
    path = archive.find(ARCHIVE, dataset.path)
    with archive.reading(path), zipfile.ZipFile(path) as files:
        archive.require(path, set(files.namelist()), {_RATINGS, _USERS, _MOVIES})
        with files.open(_USERS) as stream:
            users = _fields(stream, ["user_id", "gender", "age", "occupation", "zip_code"], text=("gender", "zip_code"))
        items = _movies(files.read(_MOVIES).decode("latin-1"))
    if unknown := sorted(set(users["age"]) - set(SCENARIO_OF_AGE)):
        raise SourceError(f"{path}: {_USERS} has age codes {unknown}; official are {list(SCENARIO_OF_AGE)}")
    counts = Counts()
    scenarios = users.drop_duplicates("user_id").set_index("user_id")["age"].map(SCENARIO_OF_AGE)
    return Log(
        schema=declare(dataset),
        users=users,
        items=items,
        counts=counts,
        path=path,
        chunks=lambda: _events(path, scenarios, counts),
    )


def _fields(stream: IO[bytes], names: list[str], *, text: tuple[str, ...] = ()) -> pd.DataFrame:
    return next(_chunks(stream, names, text, rows=None))


def _chunks(stream: IO[bytes], names: list[str], text: tuple[str, ...], rows: int | None) -> Iterator[pd.DataFrame]:
    """Lines of `a::b::c`, read by the C parser of pandas as fields between single colons, every second one empty.

    Raises ValueError where a line has more or fewer fields. pandas truncates such lines where it skips columns, which
    is why all columns are read.
    """
    between = [f"after {name}" for name in names[:-1]]
    columns = [column for pair in zip(names, [*between, ""], strict=True) for column in pair][:-1]
    types = {name: str if name in text else "int64" for name in names} | dict.fromkeys(between, "category")
    frames = pd.read_csv(
        archive.text(stream),
        sep=":",
        header=None,
        names=columns,
        dtype=types,
        chunksize=rows or _CHUNK,
        encoding="latin-1",
        keep_default_na=False,
        engine="c",
        quoting=csv.QUOTE_NONE,
    )
    checked = (_without_separators(archive.refuse_longer(frame), names, between) for frame in frames)
    yield from checked if rows else [pd.concat(checked)]


def _without_separators(frame: pd.DataFrame, names: list[str], between: list[str]) -> pd.DataFrame:
    for name in between:
        if list(frame[name].cat.categories) != [""] or frame[name].isna().any():
            raise ValueError(f"a line does not have the {len(names)} fields {'::'.join(names)}")
    return frame[names]


def _movies(text: str) -> pd.DataFrame:
    """Ids and first genres; titles contain colons: the id is before the first `::`, the genres after the last."""
    lines = [line for line in text.splitlines() if line]
    if short := [line for line in lines if line.count("::") < 2]:
        raise ValueError(f"a movie is id::title::genres, found {short[0][:60]!r}")
    genres = [line.rpartition("::")[2].partition("|")[0] for line in lines]
    return pd.DataFrame({"movie_id": [int(line.partition("::")[0]) for line in lines], "genre": genres})


def ratings(path: Path) -> Iterator[pd.DataFrame]:
    """All ratings in the archive at `path`, in order, in chunks: user_id, movie_id, rating 1 to 5, seconds since 1970.

    Raises SourceError where the archive is damaged.
    """
    with archive.reading(path), zipfile.ZipFile(path) as files, files.open(_RATINGS) as stream:
        yield from _chunks(stream, ["user_id", "movie_id", "rating", "seconds"], (), _CHUNK)


def _events(path: Path, scenarios: pd.Series, counts: Counts) -> Iterator[pd.DataFrame]:
    for frame in ratings(path):
        counts.rows_read += len(frame)
        scenario = frame["user_id"].map(scenarios)
        counts.left_out["user is not in users.dat"] += int(scenario.isna().sum())
        yield _impressions(frame, scenario, f"{path}, {_RATINGS}")[scenario.notna()]


def _impressions(frame: pd.DataFrame, scenario: pd.Series, where: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "timestamp": from_epoch(frame["seconds"], "s", where),
            "user_id": frame["user_id"],
            "movie_id": frame["movie_id"],
            "scenario": scenario,
            "click": (frame["rating"] > 3).astype(np.int8),
            "like": (frame["rating"] > 4).astype(np.int8),
            ROW: pd.util.hash_pandas_object(frame, index=False),
        }
    )
