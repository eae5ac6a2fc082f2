"""Every damage ends in quarantine or in an error that names the file: 200 generated cases of archives and tables.

The input and the model of the project are not changed. Rows that are accepted without an error or a count are those of
the undamaged file.
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
from tests.support.damaged_files import ROWS, SCHEMA, SPOILED, TEXTS, TIMESTAMPS, damage, names, rows_of, spoiled, write
from tests.support.examples import examples

pytestmark = pytest.mark.integration

ARCHIVES, TABLES = examples(120), examples(80)


@pytest.fixture(scope="module", autouse=True)
def without_pages() -> Iterator[None]:
    """Without Data Docs, which cost as much as the checks and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datadocs, "build", lambda *_, **__: None)
        yield


@st.composite
def broken_texts(draw: st.DrawFn) -> tuple[str, dict[str, str | None], None]:
    """A data set and one of its texts, with a row broken."""
    name = draw(st.sampled_from(sorted(TEXTS)))
    text = draw(st.sampled_from(TEXTS[name]))
    known = [how for how in ROWS if (name, how) != ("tenrec-qk-video", "twice")]  # it keeps repetitions
    how = draw(st.sampled_from([*known, *TIMESTAMPS * (text.timestamp is not None)]))
    return name, {text.name: text.changed(how, draw(st.integers(0, 9)), draw(st.integers(0, 9)))}, None


@st.composite
def broken_bytes(draw: st.DrawFn) -> tuple[str, dict[str, str | None], Callable[[bytes], bytes]]:
    """A data set and the damage of its archive's bytes."""
    return draw(st.sampled_from(sorted(TEXTS))), {}, damage(draw)


@contextlib.contextmanager
def project(folder: Path, **params: Any) -> Any:
    """`folder` as the root of a project with a champion; at the end it and all input are unchanged."""
    for model in ("artifacts/models/hinet_plus", "artifacts/releases/abc/model", "artifacts/releases/abc/bento"):
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
    """Run the stage `validate` in the current folder; its report by table."""
    folders = {"schema": Path(schema), "ingested": Path("ingested"), "out": Path("out"), "quarantine": Path("aside")}
    validate(**folders, report=Path("report.json"), docs=Path("docs"))
    return json.loads(Path("report.json").read_text())["tables"]


def account(tables: dict[str, Any], rows: dict[str, int]) -> dict[str, list[str]]:
    """The accepted rows as text; every row of the input is accepted or in quarantine with its reasons."""
    accepted = {name: list(map(rich_world.as_text, rich_world.read(Path("out"), name))) for name in tables}
    for name, report in tables.items():
        quarantined = pq.read_table(f"aside/{name}.parquet")
        assert all(quarantined["reasons"].to_pylist()) or not quarantined.num_rows
        assert report["quarantined"] == quarantined.num_rows
        assert report["rows"] == rows[name] == len(accepted[name]) + quarantined.num_rows
    return accepted


def run(source: Path, name: str) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The rows of an archive that `ingest` and `validate` accept, and their counts of the others."""
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
    quarantined = {table: report["quarantined"] for table, report in tables.items()}
    return accepted, {name: counts[name] for name in ("left_out", "repeated_rows", "made_null")} | quarantined


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Accepted rows and counts of each undamaged archive."""
    return {name: run(write(tmp_path_factory.mktemp(name), name, {}), name) for name in TEXTS}


def test_valid_archives_pass(whole: dict[str, Any]) -> None:
    """No row of the undamaged archives is in quarantine."""
    assert not any(counts[table] for _, counts in whole.values() for table in ("events", "users", "items"))


@given(case=broken_texts() | broken_bytes())
@settings(max_examples=ARCHIVES, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
def test_a_broken_archive_is_refused_by_its_name_or_its_broken_rows_are_counted(
    whole: dict[str, Any], case: tuple
) -> None:
    """An error that names the file, or rows that are counted or in quarantine; never fewer or other rows silently."""
    name, texts, change = case
    with TemporaryDirectory() as folder:
        source = write(Path(folder), name, texts)
        source.write_bytes(change(source.read_bytes()) if change else source.read_bytes())
        before = rich_world.digests(Path(folder))
        result = attempt(lambda: run(source, name))
        if isinstance(result, str):
            assert source.name in result or "rows in quarantine" in result
        else:
            assert result[1] != whole[name][1] if texts else result[0] == whole[name][0]
        assert rich_world.digests(Path(folder)) == before


def attempt(action: Callable[[], Any]) -> Any:
    """The result of `action`, or the message of its PipelineError."""
    try:
        return action()
    except PipelineError as error:
        return str(error)


@st.composite
def broken_tables(draw: st.DrawFn) -> tuple[str, int, Callable[[Path], None], bool]:
    """A table, the number of one of its files, its damage, and whether that is a fault for any content of the file."""
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
def test_a_broken_table_is_refused_by_its_name_or_its_broken_rows_are_in_quarantine(case: tuple) -> None:
    """An error that names the file, the closed gate with its report, or rows in quarantine; the input is unchanged."""
    table, number, change, fault = case
    with TemporaryDirectory() as folder:
        ingested = rich_world.write(Path(folder) / "ingested", rich_world.rich_tables(rows=40))
        (Path(folder) / "schema.json").write_text(to_json(SCHEMA))
        paths = partitions.files(ingested, table)
        path = paths[number % len(paths)]
        change(path)
        with project(Path(folder), validate__tolerance=0.9):
            result = attempt(check)
            if isinstance(result, str):
                assert str(path.relative_to(folder)) in result or "the quality gate is closed" in result
            else:
                rows = {name: partitions.count(partitions.files(Path("ingested"), name)) for name in SCHEMA.tables}
                account(result, rows)
                assert result[table]["quarantined"] or not fault
