"""Windows that cannot be read, or hold too few rows: a sentence each, never a verdict, never a traceback."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import params
from common.errors import SchemaError, SourceError
from common.exit_status import NO_VERDICT, UNREADABLE
from models.model_folder import read_model
from monitoring.detection.drift_report import report_on
from monitoring.detection.readable import UnreadableWindowError
from monitoring.detection.verdict import NoVerdictError
from monitoring.drift import drift
from tests.support import tiny_project
from tests.support.examples import examples

pytestmark = pytest.mark.process

TEST_ROWS = Path("data/training/test.parquet")
TYPES = (pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.timestamp("us", "UTC"))
TYPES += (pa.date32(), pa.list_(pa.int64()), pa.list_(pa.string()), pa.binary(), pa.null(), pa.decimal128(9, 2))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project of 6,000 impressions, 500 rows of a scenario being enough."""
    return tiny_project.build(tmp_path_factory.mktemp("project"), rows=6000)


def rows_of(root: Path) -> pa.Table:
    """The test rows of the project."""
    return pq.read_table(root / TEST_ROWS)


def evaluated(root: Path, current: Path) -> dict:
    """The report on the window."""
    with contextlib.chdir(root):
        return report_on(current, read_model(tiny_project.MODEL), tiny_project.MODEL, params.load().drift)


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with other values, of their own type, in a column."""
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize("rows", [1, 7, 499])
@pytest.mark.usefixtures("without_data_docs")
def test_a_window_of_few_rows_has_no_verdict(root: Path, tmp_path: Path, rows: int) -> None:
    """Status 3, with the number of rows, and how many would do; the page says so, too."""
    pq.write_table(rows_of(root).slice(0, rows), tmp_path / "now.parquet")
    with contextlib.chdir(root), pytest.raises(NoVerdictError, match=rf"of the {rows} rows of the window") as error:
        drift(current=tmp_path / "now.parquet", reference=tiny_project.MODEL, out=tmp_path / "drift")
    assert error.value.exit_status == NO_VERDICT
    assert "tested from 500 on (drift.fewest_rows)" in str(error.value)
    assert "rows of the usual mix would do" in str(error.value)
    assert json.loads((tmp_path / "drift" / "drift.json").read_text())["verdict"] == "none"
    assert "No verdict" in (tmp_path / "drift" / "index.html").read_text()


def test_a_window_without_rows_has_no_verdict(root: Path, tmp_path: Path) -> None:
    """There is nothing to compare."""
    pq.write_table(rows_of(root).slice(0, 0), tmp_path / "now.parquet")
    with pytest.raises(SchemaError, match=r"now\.parquet holds no rows"):
        evaluated(root, tmp_path / "now.parquet")


def test_a_window_of_one_scenario_is_another_mix(root: Path, tmp_path: Path) -> None:
    """And the rows of the others are missing."""
    table = rows_of(root)
    pq.write_table(table.filter(pc.equal(table["scenario"], "feed")), tmp_path / "now.parquet")
    report = evaluated(root, tmp_path / "now.parquet")
    assert report["verdict"] == "act"
    assert report["findings"][0]["kind"] == "mix"
    assert {row["change"] for row in report["volume"]["scenarios"] if row["scenario"] != "feed"} == {-1}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("price", "cheap", r"column price is a number \(float32\).*found string"),
        ("city", 7, r"column city is text \(string\).*found int64"),
        ("click", 2, r"column click is a label: 0, 1 or null \(not observed\), found 2 in [\d,]+ rows"),
        ("click", "yes", r"column click is an integer \(int8\).*found string"),
        ("scenario", "cellar", r"column scenario is one of the scenarios .*found 'cellar'"),
        ("user_id", 1.5, r"column user_id is an integer \(int64\).*found double"),
    ],
)
def test_a_value_of_another_type_is_a_sentence(
    root: Path, tmp_path: Path, name: str, value: object, words: str
) -> None:
    """File, column, what was expected and found, and what to do."""
    table = rows_of(root)
    pq.write_table(replaced(table, name, pa.array([value] * len(table))), tmp_path / "now.parquet")
    with pytest.raises(UnreadableWindowError, match=rf"now\.parquet: {words}.*Write the window as") as error:
        evaluated(root, tmp_path / "now.parquet")
    assert error.value.exit_status == UNREADABLE


def _truncated(path: Path, table: pa.Table) -> None:
    """A file of which only the first half was copied."""
    pq.write_table(table, path)
    os.truncate(path, path.stat().st_size // 2)


def _overwritten(path: Path, table: pa.Table) -> None:
    """A file with an intact end, whose pages are not."""
    pq.write_table(table, path, compression="none")
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = os.urandom(len(content) // 2 - 4)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path, table: path.write_bytes(b""), "cannot be read as Parquet: an empty file"),
        (lambda path, table: path.write_text("a,b\n1,2\n"), "cannot be read as Parquet"),
        (lambda path, table: path.mkdir(), "is a folder, expected a Parquet file"),
        (lambda path, table: pq.write_table(table.drop_columns(["price"]), path), r"has no columns \['price'\]"),
        (_truncated, "cannot be read as Parquet"),
        (_overwritten, "cannot be read"),
    ],
    ids=["empty", "csv", "folder", "column", "truncated", "overwritten"],
)
def test_a_file_that_is_no_window_is_a_sentence(
    root: Path, tmp_path: Path, write: Callable[[Path, pa.Table], object], words: str
) -> None:
    """An empty file, another format, a folder, a missing column, half a file, damaged pages."""
    write(tmp_path / "now.parquet", rows_of(root))
    with pytest.raises(UnreadableWindowError, match=words):
        evaluated(root, tmp_path / "now.parquet")


def test_a_window_without_a_file_is_none(root: Path, tmp_path: Path) -> None:
    """Status 3, as of a window without rows: nothing is there that could not be read."""
    with pytest.raises(SourceError, match=r"absent\.parquet does not exist") as error:
        evaluated(root, tmp_path / "absent.parquet")
    assert error.value.exit_status is None


def test_each_file_of_a_pattern_is_checked(root: Path, tmp_path: Path) -> None:
    """The one that differs is named."""
    table = rows_of(root)
    pq.write_table(table, tmp_path / "1.parquet")
    pq.write_table(replaced(table, "price", pa.array(["1"] * len(table))), tmp_path / "2.parquet")
    with pytest.raises(UnreadableWindowError, match=r"2\.parquet: column price"):
        evaluated(root, tmp_path / "*.parquet")


@given(data=st.data())
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_type_in_any_column_is_read_or_refused(root: Path, tmp_path: Path, data: st.DataObject) -> None:
    """A report, or a sentence about the window: no other error, whatever a column holds."""
    table = rows_of(root).slice(0, 600)
    name, kind = data.draw(st.sampled_from(table.column_names)), data.draw(st.sampled_from(TYPES))
    values = data.draw(st.sampled_from(_values(kind)))
    changed = replaced(table, name, pa.array([values] * len(table), kind))
    pq.write_table(changed, tmp_path / "now.parquet")
    assert outcome(root, tmp_path / "now.parquet") in ("ok", "watch", "act", "none", "refused")


def outcome(root: Path, current: Path) -> str:
    """The verdict, or that the window was refused by name."""
    try:
        return str(evaluated(root, current)["verdict"])
    except SourceError as error:
        return "refused" if current.name in str(error) else str(error)


def _values(kind: pa.DataType) -> list[object]:
    """Values of an Arrow type, the extreme ones among them."""
    if pa.types.is_list(kind):
        return [[], [None], None, _values(kind.value_type)]
    if pa.types.is_integer(kind):
        return [0, -1, 2 ** (kind.bit_width - 1) - 1, -(2 ** (kind.bit_width - 1)), None]
    if pa.types.is_floating(kind):
        return [0.5, -1.0, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, None]
    own = {
        pa.string(): ["", "feed", "\N{GRINNING FACE}", "a" * 10_000],
        pa.binary(): [b"\x00", b""],
        pa.bool_(): [True, False],
        pa.date32(): [0, 2_932_896, -719_162],
        pa.decimal128(9, 2): [0, 1],
        pa.null(): [],
    }
    return [*own.get(kind, [0, 253_402_300_799_000_000, -62_135_596_800_000_000]), None]
