"""Whatever is broken ends in quarantine or in a named error: 200 generated cases, raw archives and ingested tables.

What was read is not changed, and neither is the model beside it. A broken archive or row is noticed: what is accepted
without a word is what the whole file would have given.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from common.errors import PipelineError
from features.ingest import ingest
from features.quality import datadocs, partitions
from features.schema import to_json
from features.validate import validate
from tests.support import rich_world, world
from tests.support.damaged_files import MOMENTS, ROWS, SCHEMA, SPOILED, TEXTS, damage, names, rows_of, spoiled, write

ARCHIVES, TABLES = 120, 80  # cases


@pytest.fixture(scope="module", autouse=True)
def without_pages() -> Iterator[None]:
    """Data Docs cost as much as the checks, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datadocs, "build", lambda *_: None)
        yield


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


@contextlib.contextmanager
def project(folder: Path, **params: Any) -> Any:
    """`folder` as the root of a project with a champion in it; in the end it and all input are as they were."""
    for model in ("artifacts/models/hinet", "artifacts/releases/abc/model", "artifacts/releases/abc/bento"):
        (folder / model).mkdir(parents=True)
        (folder / model / "weights.safetensors").write_bytes(model.encode())
    champion = folder / "artifacts" / "releases" / "champion"
    champion.symlink_to("abc")
    world.write_params(folder, **params)
    with contextlib.chdir(folder):
        before = rich_world.digests(folder)
        yield
        after = rich_world.digests(folder)
    assert before == {name: after.get(name) for name in before}
    assert str(champion.readlink()) == "abc"


def check(schema: str = "schema.json") -> dict[str, Any]:
    """The stage `validate` where the test stands; what it accepted, and its report by table."""
    places = {"schema": Path(schema), "ingested": Path("ingested"), "out": Path("out"), "quarantine": Path("aside")}
    validate(**places, report=Path("report.json"), docs=Path("docs"))
    return json.loads(Path("report.json").read_text())["tables"]


def account(tables: dict[str, Any], rows: dict[str, int]) -> dict[str, list[str]]:
    """The accepted rows as text; every row that came in is accepted or in quarantine with its reasons."""
    accepted = {name: list(map(rich_world.as_text, rich_world.read(Path("out"), name))) for name in tables}
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
        ingested = {table: partitions.count(partitions.files(Path("ingested"), table)) for table in SCHEMA.tables}
        before = rich_world.digests(Path("ingested"))
        tables = check()
        assert rich_world.digests(Path("ingested")) == before
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
@settings(max_examples=ARCHIVES, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
def test_a_broken_archive_is_refused_by_its_name_or_its_broken_rows_step_aside(
    whole: dict[str, Any], case: tuple
) -> None:
    """A named error, or rows that are counted or in quarantine; never less or other rows without a word."""
    name, texts, change = case
    with TemporaryDirectory() as folder:
        source = write(Path(folder), name, texts)
        source.write_bytes(change(source.read_bytes()) if change else source.read_bytes())
        before = rich_world.digests(Path(folder))
        found = attempt(lambda: run(source, name))
        if isinstance(found, str):
            assert source.name in found or "rows in quarantine" in found
        else:
            assert found[1] != whole[name][1] if texts else found[0] == whole[name][0]
        assert rich_world.digests(Path(folder)) == before


def attempt(action: Callable[[], Any]) -> Any:
    """What `action` gives, or the message of the error that it names."""
    try:
        return action()
    except PipelineError as error:
        return str(error)


@st.composite
def broken_tables(draw: st.DrawFn) -> tuple[str, int, Callable[[Path], None], bool]:
    """A table, one of its files, what happens to it, and whether that is a fault whatever stands in the file."""
    if draw(st.booleans()):
        change = damage(draw)
        table = draw(st.sampled_from(sorted(SCHEMA.tables)))
        return table, draw(st.integers(0, 9)), lambda path: path.write_bytes(change(path.read_bytes())) and None, False
    how = draw(st.sampled_from(["missing", *SPOILED]))
    table = draw(st.sampled_from([t for t in SCHEMA.tables if how == "missing" or set(names(t)) & set(SPOILED[how])]))
    if how == "missing":
        return table, 0, lambda path: path.unlink(), table != "events"  # a day may have no events
    name = draw(st.sampled_from([name for name in names(table) if name in SPOILED[how]]))
    return table, draw(st.integers(0, 9)), lambda path: pq.write_table(spoiled(rows_of(path), how, name), path), True


@given(case=broken_tables())
@settings(max_examples=TABLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
def test_a_broken_table_is_refused_by_its_name_or_its_broken_rows_step_aside(case: tuple) -> None:
    """A named error, the closed gate with its report, or rows in quarantine; what came in stays as it came."""
    table, place, change, fault = case
    with TemporaryDirectory() as folder:
        ingested = rich_world.write(Path(folder) / "ingested", rich_world.rich_tables(rows=40))
        (Path(folder) / "schema.json").write_text(to_json(SCHEMA))
        paths = partitions.files(ingested, table)
        path = paths[place % len(paths)]
        change(path)
        with project(Path(folder), validate__tolerance=0.9):
            found = attempt(check)
            if isinstance(found, str):
                assert str(path.relative_to(folder)) in found or "the gate is closed" in found
            else:
                rows = {name: partitions.count(partitions.files(Path("ingested"), name)) for name in SCHEMA.tables}
                account(found, rows)
                assert found[table]["quarantined"] or not fault
