r"""Tenrec's QK-video, one million users: short videos in a feed; scenarios = kinds of video, tasks = click and like.

It reads `ctr_data_1M.csv`, as it is or within `Tenrec.zip`: 120,342,306 rows, 28,880,860 clicks, 2,275,417 likes. The
following is published about the file (it was not available here), with how each property is handled:

- The file has no timestamp, only an order: user by user, the rows of a user in order of time. The timestamp of a row
  is its position in the file, a tenth of a second per row from 2022-01-01 (UTC): 864,000 rows a day, a size that fits
  into memory. It orders the rows and has no other meaning: the hour is no feature, a day is no calendar day, and
  statistics of the past would be those of users earlier in the file. The published split is the random one.
- `hist_1` .. `hist_10` are the first ten clicks of a user (at most all but one), oldest first, padded with 0. They are
  the same in all rows of a user (whose rows of these clicks are not in the file), so they are a profile: `history`.
  An impression that was shown among these ten clicks sees later ones, as in the published protocol.
- A video has one `video_category` in all its rows: 0, 1 or, unknown, `\N` (here: missing); these three are the domains
  of the published multi-scenario comparisons. params.yaml may name gender or age (0: unknown) as the scenario instead.
- 883,646 rows repeat another one in all columns. Without a timestamp a second impression cannot be distinguished from
  a repetition: all are kept, as in the published counts.
- No source states that a like needs a click, so no task requires another. `watching_times`, `follow` and `share` are
  labels and not inputs.

Published recipe: every click and twice as many of the impressions without one (86,642,580 rows), gender, age, history
and category as they are, no value too rare, no statistics, random 8:1:1, embedding width 32, batches of 4096, Adam
with 1e-4.
Owner: Tencent, CC BY-NC 4.0; available from its page only, after its licence form: never downloaded by this project.
"""

import csv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from common.errors import SourceError
from common.params import Dataset, Tenrec
from common.paths import ARCHIVES
from features.datasets import archive
from features.datasets.log import Counts, Log
from features.schema import Column, DType, Kind, Role, Schema, Task

FILE, ARCHIVE, PAGE = "ctr_data_1M.csv", "Tenrec.zip", "https://tenrec0.github.io"
START, STEP = np.datetime64("2022-01-01", "us"), np.timedelta64(100_000, "us")  # of the first row; from row to row
CATEGORIES, MISSING = ("0", "1", "missing"), {r"\N": "missing"}
_HISTORY = [f"hist_{rank}" for rank in range(1, 11)]
_LABELS = ("click", "like")
_TYPES = dict.fromkeys(("user_id", "item_id", *_LABELS, "gender", "age", *_HISTORY), "int64") | {
    "video_category": "category"
}
_CHUNK = 500_000  # rows; the sample depends on it


def declare(dataset: Dataset) -> Schema:
    """Seven fields (two ids, category, gender, age, history; one of them the scenario), click and like."""
    settings = dataset.tenrec_qk_video
    scenarios = tuple(settings.scenarios)
    user, item = _categorical("user_id", Role.USER), _categorical("item_id", Role.ITEM)
    history = Column(
        name="history",
        role=Role.FEATURE,
        dtype=DType.INT64_LIST,
        kind=Kind.SEQUENCE,
        domain=item.name,
        length=len(_HISTORY),
        desc="the user's first clicks, newest last",
    )
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP, desc="the row's position in the file"),
        user,
        item,
        Column(name=settings.scenario, role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=scenarios),
        *(Column(name=task, role=Role.LABEL, dtype=DType.INT8, values=(0, 1)) for task in _LABELS),
    )
    return Schema(
        name=dataset.name,
        scenarios=scenarios,
        tasks=tuple(Task(name=task) for task in _LABELS),
        events=events,
        users=(user, *_profile(settings, gender=tuple(range(3)), age=tuple(range(8))), history),
        items=(item, *_profile(settings, video_category=CATEGORIES)),
    )


def _categorical(name: str, role: Role, values: tuple[int | str, ...] | None = None) -> Column:
    dtype = DType.STRING if values == CATEGORIES else DType.INT64
    return Column(name=name, role=role, dtype=dtype, kind=Kind.CATEGORICAL, values=values)


def _profile(settings: Tenrec, **values: tuple[int | str, ...]) -> tuple[Column, ...]:
    """The columns of a profile by their values; the one that is the scenario is a column of the events."""
    return tuple(_categorical(name, Role.FEATURE, known) for name, known in values.items() if name != settings.scenario)


def read(dataset: Dataset) -> Log:
    """The log out of `ctr_data_1M.csv`, read twice: users, videos and counts first, for an exact sample.

    Raises SourceError where it is missing or not in its official layout.
    """
    path, settings, counts = _find(dataset.path), dataset.tenrec_qk_video, Counts()
    users, items, rows = _scan(path, settings)
    negatives, clicks = rows.tolist()
    sampled = min(round(settings.negatives_per_click * clicks), negatives)
    return Log(
        schema=declare(dataset),
        counts=counts,
        rows=clicks + sampled,
        path=path,
        users=users.assign(history=_histories(users[_HISTORY])).drop(columns=_HISTORY),
        items=items,
        chunks=lambda: _events(path, settings, counts, sampled, negatives),
    )


def _find(folder: str) -> Path:
    names = (FILE, ARCHIVE)
    if Path(folder) == ARCHIVES and not any((ARCHIVES / name).is_file() for name in names):
        raise SourceError(
            f"{folder} holds no Tenrec, which is never downloaded: its owner requires a licence form.\n"
            f"Fill in the form at {PAGE}, put {ARCHIVE} (or {FILE} out of it) into a folder of yours and set "
            "dataset.path to that folder"
        )
    return archive.find_file(Path(folder), names, f"{PAGE} (after its licence form)")


def _scan(path: Path, settings: Tenrec) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.int64]]:
    """Users and videos of the scenarios (the first row of each), and the number of rows without and with click [2]."""
    users = items = None
    clicks = np.zeros(2, np.int64)
    with tqdm(desc="scan", unit=" rows", unit_scale=True) as bar:
        for frame in _frames(path):
            kept = frame[_scenario(frame, settings).isin(settings.scenarios)]
            users = _with_new(users, kept[["user_id", "gender", "age", *_HISTORY]], "user_id")
            items = _with_new(items, kept[["item_id", "video_category"]], "item_id")
            clicks += np.bincount(kept["click"] != 0, minlength=2)
            bar.update(len(frame))
    if users is None or items is None or users.empty:
        raise SourceError(f"{path}: {FILE} has no row whose {settings.scenario} is one of {settings.scenarios}")
    return users, items, clicks


def _with_new(known: pd.DataFrame | None, rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """`known`, followed by the first row of each `key` that is new."""
    first = rows.drop_duplicates(key)
    return first if known is None else pd.concat([known, first[~first[key].isin(known[key])]])


def _histories(items: pd.DataFrame) -> pd.Series:
    """Ten columns as one list per row, without the zeros; no Python object per value."""
    values = items.to_numpy()
    ends = np.concatenate([[0], (values != 0).sum(axis=1).cumsum()]).astype(np.int32)
    lists = pa.ListArray.from_arrays(ends, pa.array(values[values != 0]))
    return pd.Series(pd.arrays.ArrowExtensionArray(lists), index=items.index)


def _frames(path: Path) -> Iterator[pd.DataFrame]:
    """The columns that are read, in chunks; the index is the position of a row in the file."""
    with archive.reading(path), _opened(path) as opened:
        stream = archive.text(opened)
        names = next(csv.reader([stream.readline().decode("utf-8-sig").strip()]), [])
        archive.require_columns(path, FILE, set(names), set(_TYPES))
        types = dict.fromkeys(names, "category") | _TYPES  # all: pandas truncates long rows where it skips columns
        rows = pd.read_csv(stream, header=None, names=names, dtype=types, keep_default_na=False, chunksize=_CHUNK)
        with rows:
            for frame in rows:
                archive.refuse_longer(frame)
                category = frame["video_category"].cat.rename_categories(MISSING).astype(object)
                yield frame[list(_TYPES)].assign(video_category=category)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file as a stream of bytes, compressed or not."""
    if path.name == FILE:
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as files:
        member = {Path(name).name: name for name in files.namelist()}
        archive.require(path, set(member), {FILE})
        with files.open(member[FILE]) as member_stream:
            yield member_stream


def _scenario(frame: pd.DataFrame, settings: Tenrec) -> pd.Series:
    return frame[settings.scenario].astype(str)


def _events(path: Path, settings: Tenrec, counts: Counts, sampled: int, negatives: int) -> Iterator[pd.DataFrame]:
    """Every click, and exactly `sampled` of the `negatives` rows without one."""
    random = np.random.default_rng(settings.seed)
    for frame in _frames(path):
        counts.rows_read += len(frame)
        scenario = _scenario(frame, settings)
        kept = scenario.isin(settings.scenarios).to_numpy()
        counts.left_out.update(
            {f"{settings.scenario} {name}": int(n) for name, n in scenario[~kept].value_counts().items()}
        )
        without = np.flatnonzero(kept & (frame["click"] == 0))
        drawn = draw(random, without, sampled=sampled, negatives=negatives)
        sampled, negatives = sampled - len(drawn), negatives - len(without)
        counts.left_out["click 0 and not sampled"] += len(without) - len(drawn)
        kept[np.setdiff1d(without, drawn, assume_unique=True)] = False
        yield _impressions(frame[kept], scenario[kept])


def draw(random: np.random.Generator, rows: NDArray[Any], *, sampled: int, negatives: int) -> NDArray[Any]:
    """Draw those of a chunk's `rows` that belong to a sample of `sampled` of all `negatives` from this chunk on.

    Their number is drawn first (hypergeometric), then the rows. Over all chunks each set of `sampled` rows is equally
    likely, and no part of the file is kept in memory.
    """
    drawn = random.hypergeometric(len(rows), negatives - len(rows), sampled)
    return random.choice(rows, drawn, replace=False, shuffle=False)


def _impressions(frame: pd.DataFrame, scenario: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "timestamp": START + frame.index.to_numpy() * STEP,
            "user_id": frame["user_id"],
            "item_id": frame["item_id"],
            str(scenario.name): scenario,
            **{task: frame[task] for task in _LABELS},
        }
    )
