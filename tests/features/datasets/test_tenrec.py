"""The reader of Tenrec's QK-video, on a tiny file in the official layout."""

import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import SourceError
from common.params import Dataset, Tenrec
from features import datasets
from features.datasets import tenrec
from features.datasets.archive import KEPT
from features.datasets.log import Log
from features.ingest import ingest
from features.schema import FEATURE_ROLES, Kind
from features.validate import validate
from tests.support import world

COLUMNS = (
    "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age,"
    "hist_1,hist_2,hist_3,hist_4,hist_5,hist_6,hist_7,hist_8,hist_9,hist_10"
)
FIRST, SECOND, THIRD = "2,3,80936,781,111774,1230,26403,991,2362,1202", "4,2,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,0"
ROWS = rf"""1,4,0,0,0,0,1,0,1,4,{FIRST}
1,1201,1,0,0,0,1,1,1,4,{FIRST}
1,9,0,0,1,0,0,0,1,4,{FIRST}
1,7,0,0,0,0,0,0,1,4,{FIRST}
2,7,0,0,0,0,0,0,0,0,{SECOND}
2,9,1,1,1,1,0,5,0,0,{SECOND}
2,8,0,0,0,0,\N,0,0,0,{SECOND}
5,8,0,0,0,0,\N,0,2,7,{THIRD}
"""


def write(folder: Path, rows: str = ROWS, *, columns: str = COLUMNS, packed: bool = False) -> Path:
    """ctr_data_1M.csv in `folder`, or Tenrec.zip with it."""
    text = f"{columns}\n{rows}"
    if not packed:
        (folder / tenrec.FILE).write_text(text)
        return folder / tenrec.FILE
    with zipfile.ZipFile(folder / tenrec.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("Tenrec/Readme.txt", "the items of a user are in order of time")
        made.writestr(f"Tenrec/{tenrec.FILE}", text)
    return folder / tenrec.ARCHIVE


def dataset(folder: Path, **changes: object) -> Dataset:
    """The part of params.yaml that the reader looks at, with changes; by default every row is read."""
    section = world.section("dataset")["tenrec-qk-video"] | {"negatives_per_click": 9.0} | changes
    return Dataset.model_construct(name="tenrec-qk-video", path=str(folder), tenrec_qk_video=Tenrec(**section))


def events(log: Log) -> pd.DataFrame:
    """All chunks as one frame."""
    return pd.concat(log.chunks(), ignore_index=True)


def many(rows: int = 3000, seed: int = 3) -> str:
    """Rows in the official layout: 20 users one after the other, 60 videos with a category each, 20 % clicks."""
    random = np.random.default_rng(seed)
    user, item = np.sort(random.integers(1, 21, rows)), random.integers(1, 61, rows)
    click, like = (random.random(rows) < 0.2).astype(int), (random.random(rows) < 0.05).astype(int)
    category = np.array(["0", "1", r"\N"])[item % 3]
    lines = zip(user, item, click, like, category, strict=True)
    return "".join(
        f"{u},{i},{c},0,{k},0,{v},{c},{u % 3},{u % 8},{u},{u + 1}" + ",0" * 8 + "\n" for u, i, c, k, v in lines
    )


@pytest.mark.parametrize("packed", [False, True])
def test_events(tmp_path, packed):
    """Packed or not: moment by place in the file, the category as scenario, two labels, nothing else."""
    write(tmp_path, packed=packed)
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


def test_negatives_of_the_scenarios_alone(tmp_path):
    """Where a category is left out, two negatives per click are those of the others."""
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
        found, wanted, negatives = [], 4, 7
        for rows in (np.arange(3), np.arange(3, 6), np.arange(6, 7)):
            drawn = tenrec.draw(random, rows, wanted=wanted, negatives=negatives)
            wanted, negatives = wanted - len(drawn), negatives - len(rows)
            found += sorted(drawn.tolist())
        seen[tuple(found)] += 1
    assert len(seen) == 35
    assert all(150 < times < 260 for times in seen.values())


def test_seven_fields():
    """A model may see ids, category, gender, age and history; no outcome and no place in the file."""
    schema = tenrec.declare(dataset(KEPT))
    columns = {c.name: c for table in schema.tables.values() for c in table if c.role in FEATURE_ROLES}
    assert set(columns) == {"user_id", "item_id", "video_category", "gender", "age", "history"}
    history = columns["history"]
    assert (history.kind, history.vocabulary, history.length) == (Kind.SEQUENCE, "item_id", 10)
    assert [(task.name, task.requires) for task in schema.tasks] == [("click", None), ("like", None)]


@pytest.fixture
def stages(tmp_path, monkeypatch) -> Callable[..., tuple[dict, dict]]:
    """Runs ingest and validate on a file of the test; returns the counts and the report."""
    monkeypatch.chdir(tmp_path)

    def run(rows: str, **changes: object) -> tuple[dict, dict]:
        write(tmp_path, rows)
        world.write_params(tmp_path)
        source = dataset(tmp_path, **changes)
        monkeypatch.setattr(datasets, "read", lambda _: tenrec.read(source))
        ingest(schema=Path("schema.json"), out=Path("ingested"), truth=Path("truth"))
        places = {name: Path(name) for name in ("ingested", "quarantine")} | {"out": Path("validated")}
        report = Path("report.json")
        validate(schema=Path("schema.json"), **places, report=report, docs=Path("docs"))
        return json.loads(Path("ingested/counts.json").read_text()), json.loads(report.read_text())

    return run


@pytest.mark.parametrize(("scenario", "values"), [("video_category", ["0", "1", "missing"]), ("age", ["0", "1", "2"])])
def test_it_passes_the_gate(stages, scenario, values):
    """What ingest makes of the file passes every expectation, row by row; no repeated row is dropped."""
    counts, report = stages(many(), negatives_per_click=2.0, scenario=scenario, scenarios=values)
    assert report["passed"]
    assert {name: table["quarantined"] for name, table in report["tables"].items()} == {
        "users": 0,
        "items": 0,
        "events": 0,
    }
    assert counts["repeated_rows"] == 0
    assert counts["rows_read"] == counts["rows_written"] + sum(counts["left_out"].values()) == 3000


def test_without_a_path(tmp_path, monkeypatch):
    """In the project's own folder nothing is downloaded: the message says where the form is and what to put where."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"form at https://tenrec0.github.io, put Tenrec.zip .* set dataset.path"):
        tenrec.read(dataset(KEPT))


def test_no_file_at_path(tmp_path):
    """A path without the file: the message says which files would do and what was found."""
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
    """A file without one of its columns (an older release said short_v) is refused with its name."""
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
    """Rows that are cut off, too long, or hold words instead of numbers are refused as not in the official layout."""
    write(tmp_path, rows)
    with pytest.raises(SourceError, match="not in its official layout"):
        tenrec.read(dataset(tmp_path))


def test_truncated_archive(tmp_path):
    """An archive whose end is missing is refused by its name."""
    made = write(tmp_path, many(), packed=True)
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
    reason="Tenrec is not there: its owner asks for a licence form",
)
def test_the_real_one():
    """120,342,306 rows, of which 28,880,860 clicks and twice as many others are read; 999,447 users."""
    log = tenrec.read(dataset(Path(os.environ["HINET_DATA"]), negatives_per_click=2.0))
    assert (len(log.users), len(log.items), log.rows) == (999_447, 2_310_087, 86_642_580)
    assert sum(map(len, log.chunks())) == 86_642_580
    assert log.counts.rows_read == 120_342_306
