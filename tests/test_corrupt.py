"""Whatever is broken ends in quarantine or in a named error: 200 generated cases, raw archives and ingested tables.

What was read is not changed, and neither is the model beside it. A broken archive or row is noticed: what is accepted
without a word is what the whole file would have given.
"""

import contextlib
import dataclasses
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gate
import pyarrow.parquet as pq
import pytest
import test_kuairand
import test_movielens
import test_tenrec
import world
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import PipelineError
from features import partitions
from features.ingest import ingest
from features.validate import validate

Change = Callable[[Path], None]
ARCHIVES, TABLES = 120, 80  # cases
FUTURE, PAST = "4102444800", "-86400"  # 2100 and 1969, in seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """One text of an archive: its lines that are read, the cells of a line that are numbers, the moment among them."""

    name: str
    text: str
    separator: str
    header: bool
    numbers: tuple[int, ...]
    moment: int | None = None
    left_out: int = 0  # rows at the end

    def changed(self, how: str, line: int, cell: int) -> str | None:
        """The text with one of its rows broken; None: without the file."""
        if how in ("missing", "empty"):
            return None if how == "missing" else ""
        lines = self.text.splitlines()
        if how == "header":
            return "\n".join(lines[1:] if self.header else [self.separator.join("abcdefgh"), *lines]) + "\n"
        last = len(lines) - self.left_out
        place = self.header + line % (last - self.header)
        lines[place] = self._row(lines[place], how, cell)
        return "\n".join(lines) + "\n"

    def _row(self, row: str, how: str, cell: int) -> str:
        if how in ("long", "twice"):
            return f"{row}{self.separator}7" if how == "long" else f"{row}\n{row}"
        fields = row.split(self.separator)
        if how == "short":
            return self.separator.join(fields[: max(1, self.numbers[-1])])
        scale = "000" if self.separator == "," else ""  # milliseconds
        if how in ("future", "past"):
            fields[self.moment] = (FUTURE if how == "future" else PAST) + scale
        else:
            fields[self.numbers[cell % len(self.numbers)]] = CELLS[how]
        return self.separator.join(fields)


CELLS = {"word": "seven", "fraction": "1.5", "huge": "1" + "0" * 30, "not UTF-8": "\udcff\udcfe", "zero byte": "1\0"}
ROWS = ("long", "short", "twice", "header", "missing", "empty", *CELLS)
MOMENTS = ("future", "past")


def _dat(name: str, text: str, numbers: tuple[int, ...], **more: Any) -> Text:
    return Text(name=name, text=text, separator="::", header=False, numbers=numbers, **more)


def _csv(name: str, text: str, numbers: tuple[int, ...], **more: Any) -> Text:
    return Text(name=name, text=text, separator=",", header=True, numbers=numbers, **more)


TEXTS = {
    "movielens-1m": (
        _dat("ratings", test_movielens.RATINGS, (0, 1, 2, 3), moment=3, left_out=1),
        _dat("users", test_movielens.USERS, (0, 2, 3)),
        _dat("movies", test_movielens.MOVIES, (0,)),
    ),
    "kuairand-pure": (
        _csv("log_standard_4_08_to_4_21_pure", test_kuairand.FIRST, (0, 1, 4, 5, 18), moment=4),
        _csv("log_standard_4_22_to_5_08_pure", test_kuairand.SECOND, (0, 1, 4, 5, 18), moment=4, left_out=1),
        _csv("user_features_pure", test_kuairand.USERS.replace('"[100,1k)"', "a").replace('"[30,60)"', "b"), (0, 2)),
        _csv("video_features_basic_pure", test_kuairand.VIDEOS.replace('"20,43"', "20"), (0, 1)),
    ),
    "tenrec-qk-video": (_csv("rows", f"{test_tenrec.COLUMNS}\n{test_tenrec.ROWS}", (0, 1, 2, 8, 9, 10)),),
}  # fmt: skip


def write(folder: Path, name: str, changes: dict[str, str | None]) -> Path:
    """The archive of a data set with some of its texts exchanged."""
    if name == "tenrec-qk-video":
        texts = {text.name: text.text for text in TEXTS[name]} | changes
        with zipfile.ZipFile(folder / "Tenrec.zip", "w", zipfile.ZIP_DEFLATED) as made:
            if texts["rows"] is not None:
                made.writestr("Tenrec/ctr_data_1M.csv", texts["rows"].encode(errors="surrogateescape"))
        return folder / "Tenrec.zip"
    maker = test_movielens if name == "movielens-1m" else test_kuairand
    return maker.write(folder, **{text.name: text.text for text in TEXTS[name]} | changes)


@st.composite
def broken_texts(draw: st.DrawFn) -> tuple[str, dict[str, str | None], None]:
    """A data set and one of its texts, with a row broken."""
    name = draw(st.sampled_from(sorted(TEXTS)))
    text = draw(st.sampled_from(TEXTS[name]))
    known = [how for how in ROWS if (name, how) != ("tenrec-qk-video", "twice")]  # which keeps repetitions: they count
    how = draw(st.sampled_from([*known, *MOMENTS * (text.moment is not None)]))
    return name, {text.name: text.changed(how, draw(st.integers(0, 9)), draw(st.integers(0, 9)))}, None


@st.composite
def broken_bytes(draw: st.DrawFn) -> tuple[str, dict[str, str | None], Callable[[bytes], bytes]]:
    """A data set and what happens to the bytes of its archive."""
    return draw(st.sampled_from(sorted(TEXTS))), {}, damage(draw)


def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut off anywhere, a bit turned over anywhere, nothing left, or other bytes altogether."""
    how, place = draw(st.sampled_from(["cut", "flip", "flip", "empty", "garbage"])), draw(st.floats(0, 1, width=32))
    bit = 1 << draw(st.integers(0, 7))

    def cut(content: bytes) -> bytes:
        return content[: int(place * (len(content) - 1))]

    def flip(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]

    return {
        "cut": cut,
        "flip": flip,
        "empty": lambda _: b"",
        "garbage": lambda c: random.Random(place).randbytes(len(c)),
    }[how]


@contextlib.contextmanager
def project(folder: Path, **params: Any) -> Any:
    """`folder` as the root of a project with a champion in it; in the end it and all input are as they were."""
    champion = folder / "artifacts" / "models" / "hinet"
    champion.mkdir(parents=True)
    (champion / "weights.safetensors").write_bytes(b"champion")
    world.write_params(folder, **params)
    with contextlib.chdir(folder):
        before = gate.digests(folder)
        yield
        after = gate.digests(folder)
    assert before == {name: after.get(name) for name in before}


def check(schema: str = "schema.json") -> dict[str, Any]:
    """The stage `validate` where the test stands; what it accepted, and its report by table."""
    places = {"schema": Path(schema), "ingested": Path("ingested"), "out": Path("out"), "quarantine": Path("aside")}
    validate(**places, report=Path("report.json"), docs=Path("docs"))
    return json.loads(Path("report.json").read_text())["tables"]


def account(tables: dict[str, Any], rows: dict[str, int]) -> dict[str, list[str]]:
    """The accepted rows as text; every row that came in is accepted or in quarantine with its reasons."""
    accepted = {name: list(map(gate.as_text, gate.read(Path("out"), name))) for name in tables}
    for name, told in tables.items():
        aside = pq.read_table(f"aside/{name}.parquet")
        assert all(aside["reasons"].to_pylist()) or not aside.num_rows
        assert told["quarantined"] == aside.num_rows
        assert told["rows"] == rows[name] == len(accepted[name]) + aside.num_rows
    return accepted


def run(source: Path, name: str) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """What `ingest` and `validate` accept of an archive, and what they count beside it."""
    with (
        TemporaryDirectory() as folder,
        project(Path(folder), dataset__name=name, dataset__path=str(source.parent), validate__tolerance=0.9),
    ):
        ingest(schema=Path("schema.json"), out=Path("ingested"), truth=Path("truth"))
        counts = json.loads(Path("ingested/counts.json").read_text())
        ingested = {table: partitions.count(partitions.files(Path("ingested"), table)) for table in gate.rich_tables(0)}
        before = gate.digests(Path("ingested"))
        tables = check()
        assert gate.digests(Path("ingested")) == before
        accepted = account(tables, ingested)
        assert counts["rows_read"] == ingested["events"] + sum(counts["left_out"].values()) + counts["repeated_rows"]
    aside = {table: told["quarantined"] for table, told in tables.items()}
    return accepted, {name: counts[name] for name in ("left_out", "repeated_rows", "made_null")} | aside


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is accepted and counted of each archive as it should be."""
    return {name: run(write(tmp_path_factory.mktemp(name), name, {}), name) for name in TEXTS}


def test_valid_archives_pass(whole: dict[str, Any]) -> None:
    """Nothing of the archives that are broken below is in quarantine to begin with."""
    assert not any(counts[table] for _, counts in whole.values() for table in ("events", "users", "items"))


@given(case=broken_texts() | broken_bytes())
@settings(max_examples=ARCHIVES, deadline=None, derandomize=True, database=None)
def test_a_broken_archive_is_refused_by_its_name_or_its_broken_rows_step_aside(
    whole: dict[str, Any], case: tuple
) -> None:
    """A named error, or rows that are counted or in quarantine; never less or other rows without a word."""
    name, texts, change = case
    with TemporaryDirectory() as folder:
        source = write(Path(folder), name, texts)
        source.write_bytes(change(source.read_bytes()) if change else source.read_bytes())
        before = gate.digests(Path(folder))
        try:
            accepted, counts = run(source, name)
        except PipelineError as error:
            assert source.name in str(error) or "rows in quarantine" in str(error)
        else:
            assert counts != whole[name][1] if texts else accepted == whole[name][0]
        assert gate.digests(Path(folder)) == before
