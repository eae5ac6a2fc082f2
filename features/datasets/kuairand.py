"""KuaiRand-Pure: short videos shown in tabs; scenarios = tabs, tasks = click, long view and like.

Properties measured on the standard log of 2022-04-25 to 2022-05-08 (228,329 rows), and how each is handled:

- 5,460 rows repeat another one in all 19 columns: one of them is kept. Rows that agree in user, video and timestamp
  but not in the labels (425) are all kept.
- A long view without a click (250 rows) and a like without a click (691) occur, so no task requires another.
- -124 stands for an unknown value (`is_live_streamer` of 21,127 users): every negative value is read as missing.
- `date` disagrees with `time_ms` for 0.9 % of the rows; the timestamp is `time_ms` (UTC), the hour that of Beijing.
- Play time, stay times and the other reactions are outcomes, and the file of video statistics is made of totals
  over the whole period: none of them is an input.

The standard log is what the production policy showed. The random log (`is_rand`) is another policy with other
rates in the same two weeks: it is read only where `logs` in params.yaml names it, as the published protocol does.
Owner: Kuaishou and USTC, CC BY-SA 4.0.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from common.errors import SourceError
from common.params import Dataset
from features.datasets import archive
from features.datasets.log import ROW, Counts, Log, seconds_of
from features.datasets.timestamps import from_epoch
from features.schema import Column, DType, Kind, Role, Schema, Task

ARCHIVE = archive.Archive(
    name="KuaiRand-Pure.tar.gz",
    url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
    md5="0820331067a3784d9691136f772b35a7",
)
_USERS, _VIDEOS = "user_features_pure.csv", "video_features_basic_pure.csv"
_LOG = re.compile(r"log_(standard|random)_.*\.csv")
_CHUNK, _BLOCK = 100_000, 1 << 20  # rows, bytes
_FIRST_DAY, _END = "2022-04-07", "2022-05-10"  # of the log, with a margin of a day
_BEIJING = pd.Timedelta(hours=8)
_LABELS = {"click": "is_click", "long_view": "long_view", "like": "is_like"}
_LOG_COLUMNS = {"user_id", "video_id", "time_ms", "tab", *_LABELS.values()}
_USER_TEXT = (
    "user_active_degree",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
)
_USER_CODES = ("is_lowactive_period", "is_live_streamer", "is_video_author", *(f"onehot_feat{i}" for i in range(18)))
_USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_VIDEO_TEXT = ("video_type", "upload_type")
_VIDEO_CODES = ("author_id", "music_id", "music_type")
_VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")


def declare(dataset: Dataset) -> Schema:
    """27 categorical fields (with the id) and 4 numbers of a user; 6 such fields, 3 numbers and the tags of a video."""
    tabs = tuple(dataset.kuairand_pure.scenarios)
    hours = tuple(range(24))
    user = Column(name="user_id", role=Role.USER, dtype=DType.INT64, kind=Kind.CATEGORICAL)
    video = Column(name="video_id", role=Role.ITEM, dtype=DType.INT64, kind=Kind.CATEGORICAL)
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(
            name="timestamp",
            role=Role.TIMESTAMP,
            dtype=DType.TIMESTAMP,
            minimum=seconds_of(_FIRST_DAY),
            maximum=seconds_of(_END),
        ),
        user,
        video,
        Column(name="tab", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=tabs),
        Column(name="hour", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL, values=hours, desc="Beijing"),
        *(
            Column(name=task, role=Role.LABEL, dtype=DType.INT8, values=(0, 1), desc=raw)
            for task, raw in _LABELS.items()
        ),
    )
    tags = Column(name="tag", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.MULTI_VALUED, length=4)
    return Schema(
        name=dataset.name,
        scenarios=tabs,
        tasks=tuple(Task(name=task, desc=raw) for task, raw in _LABELS.items()),
        events=events,
        users=(user, *_profile(_USER_TEXT, _USER_CODES, _USER_NUMBERS)),
        items=(video, *_profile(_VIDEO_TEXT, _VIDEO_CODES, _VIDEO_NUMBERS), tags),
    )


def _profile(text: tuple[str, ...], codes: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[Column, ...]:
    """Features that may be missing: categories as text, categories as numbers, and counts or sizes."""
    return (
        *(_feature(name, DType.STRING, Kind.CATEGORICAL) for name in text),
        *(_feature(name, DType.INT64, Kind.CATEGORICAL) for name in codes),
        *(_feature(name, DType.FLOAT32, Kind.NUMERIC, minimum=0.0, log=True) for name in numbers),
    )


def _feature(name: str, dtype: DType, kind: Kind, *, minimum: float | None = None, log: bool = False) -> Column:
    return Column(name=name, role=Role.FEATURE, dtype=dtype, kind=kind, nullable=True, minimum=minimum, log=log)


def read(dataset: Dataset) -> Log:
    """The log out of `KuaiRand-Pure.tar.gz`, never unpacked; raises SourceError where it is missing or incomplete."""
    path = archive.find(ARCHIVE, dataset.path)
    logs = _logs(path, tuple(dataset.kuairand_pure.logs))
    counts = Counts()
    return Log(
        schema=declare(dataset),
        users=_users(path, counts),
        items=_videos(path, counts),
        chunks=lambda: _events(path, logs, tuple(dataset.kuairand_pure.scenarios), counts),
        counts=counts,
        path=path,
    )


def _logs(path: Path, kinds: tuple[str, ...]) -> list[str]:
    """Names of the log files to read, in the order of the archive."""
    with archive.reading(path), tarfile.open(path, "r:*") as tar:
        names = [Path(member.name).name for member in tar if member.isfile()]
        while tar.fileobj and tar.fileobj.read(_BLOCK):  # to the end, which holds the checksum of the whole
            pass
    archive.require(path, set(names), {_USERS, _VIDEOS})
    logs = [name for name in names if (match := _LOG.fullmatch(name)) and match[1] in kinds]
    if missing := [kind for kind in kinds if not any(name.startswith(f"log_{kind}_") for name in logs)]:
        raise SourceError(
            f"{path} holds no log_{missing[0]}_*.csv, which `logs` in params.yaml names; it holds {sorted(names)}"
        )
    return logs


def _users(path: Path, counts: Counts) -> pd.DataFrame:
    numbers = (*_USER_CODES, *_USER_NUMBERS)
    return _without_negatives(_table(path, _USERS, "user_id", _USER_TEXT, numbers), numbers, counts)


def _videos(path: Path, counts: Counts) -> pd.DataFrame:
    numbers = (*_VIDEO_CODES, *_VIDEO_NUMBERS)
    frame = _table(path, _VIDEOS, "video_id", (*_VIDEO_TEXT, "tag"), numbers)
    with archive.reading(path):
        tags = [[int(tag) for tag in tags.split(",") if tag] for tags in frame["tag"].fillna("")]
    return _without_negatives(frame, numbers, counts).assign(tag=pd.Series(tags, frame.index, dtype=object))


def _table(path: Path, name: str, key: str, text: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    types = {key: "int64"} | dict.fromkeys(text, "str") | dict.fromkeys(numbers, "float64")
    with archive.reading(path), archive.tar_text(path, name) as stream:
        return archive.table(stream, types)


def _without_negatives(frame: pd.DataFrame, columns: tuple[str, ...], counts: Counts) -> pd.DataFrame:
    negative = frame[list(columns)] < 0
    counts.made_null.update({str(name): int(n) for name, n in negative.sum().items() if n})
    return frame.assign(**frame[list(columns)].mask(negative))


def _events(path: Path, logs: list[str], tabs: tuple[str, ...], counts: Counts) -> Iterator[pd.DataFrame]:
    with archive.reading(path), tarfile.open(path, "r:*") as tar:
        for member in tar:
            if (name := Path(member.name).name) in logs and (stream := tar.extractfile(member)):
                # one type for all: the fingerprint of a row must not depend on the other rows of its chunk
                for frame in pd.read_csv(archive.text(stream), chunksize=_CHUNK, dtype="float64"):
                    archive.require_columns(path, name, set(frame.columns), _LOG_COLUMNS)
                    yield _impressions(archive.refuse_longer(frame), tabs, counts, f"{path}, {name}")


def _impressions(frame: pd.DataFrame, tabs: tuple[str, ...], counts: Counts, where: str) -> pd.DataFrame:
    counts.rows_read += len(frame)
    tab = archive.whole(frame["tab"]).astype(str)
    kept = tab.isin(tabs)
    counts.left_out.update({f"tab {name}": int(n) for name, n in tab[~kept].value_counts().items()})
    timestamp = from_epoch(archive.whole(frame["time_ms"]), "ms", where)
    return pd.DataFrame(
        {
            "timestamp": timestamp,
            "user_id": archive.whole(frame["user_id"]),
            "video_id": archive.whole(frame["video_id"]),
            "tab": tab,
            "hour": (timestamp + _BEIJING).dt.hour.astype("int64"),
            **{task: archive.whole(frame[raw], "int8") for task, raw in _LABELS.items()},
            ROW: pd.util.hash_pandas_object(frame, index=False),
        }
    )[kept]
