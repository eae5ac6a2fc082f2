"""The border of the training set: a clean one passes, and each planted fault is named and closes the gate or warns."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import ValidationError
from features.inspect_training import inspect_training
from features.quality.gate import SuiteResult
from features.quality.training_set import check_training
from features.schema import EVENT_TIMESTAMP, SPLITS, read_views
from tests.support import world

Change = Callable[[Path], None]
SETTINGS = params.Inspect(**world.section("inspect"))


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """A copy of the data of the tiny project, to plant faults in."""
    for name in ("training", "features", "validated"):
        shutil.copytree(project / "data" / name, tmp_path / name)
    shutil.copy(project / "data" / "schema.json", tmp_path)
    return tmp_path


def check(data: Path, *, by_time: bool = True) -> list[SuiteResult]:
    """The suites on what lies in `data`."""
    return check_training(
        world.schema(),
        read_views(data / "features" / "views.json"),
        SETTINGS,
        validated=data / "validated",
        features=data / "features",
        training=data / "training",
        by_time=by_time,
    )


def failed(suites: list[SuiteResult]) -> set[tuple[str, str, str]]:
    """Severity, suite and name of every rule that is broken."""
    return {(o.rule.severity, suite.name, o.rule.name) for suite in suites for o in suite.failed}


def change(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite a Parquet file."""
    pq.write_table(edit(pq.ParquetFile(path).read()), path)


def replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.column_names.index(name), name, values)


def lose_a_row(data: Path) -> None:
    """The first event of train is gone."""
    change(data / "training/train.parquet", lambda table: table.slice(1))


def add_a_foreign_row(data: Path) -> None:
    """An event that nobody accepted is in test."""
    change(
        data / "training/test.parquet",
        lambda table: pa.concat_tables([table, replace(table.slice(0, 1), "event_id", pa.array([98765]))]),
    )


def exchange_a_row(data: Path) -> None:
    """One event stands under the id of another: as many rows as before."""

    def edit(table: pa.Table) -> pa.Table:
        ids = table["event_id"].to_pylist()
        return replace(table, "event_id", pa.array([ids[1], *ids[1:]]))

    change(data / "training/valid.parquet", edit)


def store_another_type(data: Path) -> None:
    """The price is stored in double precision."""
    change(data / "training/valid.parquet", lambda table: replace(table, "price", table["price"].cast(pa.float64())))


def lose_a_column(data: Path) -> None:
    """The price is gone."""
    change(data / "training/train.parquet", lambda table: table.drop_columns("price"))


def lose_a_file(data: Path) -> None:
    """There is no test.parquet."""
    (data / "training/test.parquet").unlink()


def empty_a_split(data: Path) -> None:
    """The rows of valid stand in train."""
    rows = pq.read_table(data / "training/valid.parquet")
    change(data / "training/train.parquet", lambda table: pa.concat_tables([table, rows]))
    change(data / "training/valid.parquet", lambda table: table.slice(0, 0))


def overlap(data: Path) -> None:
    """The last row of train and the first of test change places."""
    train, test = (pq.read_table(data / f"training/{name}.parquet") for name in ("train", "test"))
    change(data / "training/train.parquet", lambda table: pa.concat_tables([table.slice(0, len(table) - 1), test[:1]]))
    change(data / "training/test.parquet", lambda table: pa.concat_tables([train.slice(len(train) - 1), table[1:]]))


def stop_a_view(data: Path) -> None:
    """The items have no snapshot of the last four days."""

    def edit(table: pa.Table) -> pa.Table:
        return table.filter(pc.less(table[EVENT_TIMESTAMP], pa.scalar(pd.Timestamp("2026-01-08"), pa.timestamp("us"))))

    change(data / "features/item.parquet", edit)


def empty_a_view(data: Path) -> None:
    """There is no snapshot of any user in a scenario."""
    change(data / "features/user_in_scenario.parquet", lambda table: table.slice(0, 0))


def date_a_view_ahead(data: Path) -> None:
    """The newest snapshot of a user is of next year."""

    def edit(table: pa.Table) -> pa.Table:
        moments = [*table[EVENT_TIMESTAMP].to_pylist()[:-1], pd.Timestamp("2027-01-01")]
        return replace(table, EVENT_TIMESTAMP, pa.array(moments, pa.timestamp("us")))

    change(data / "features/user.parquet", edit)


def lose_a_view(data: Path) -> None:
    """Two thirds of the test rows find nothing of the items."""
    view = next(view for view in read_views(data / "features/views.json") if view.name == "item")

    def edit(table: pa.Table) -> pa.Table:
        for column in view.columns:
            kept = [value if row % 3 == 0 else None for row, value in enumerate(table[column.name].to_pylist())]
            table = replace(table, column.name, pa.array(kept, table[column.name].type))
        return table

    change(data / "training/test.parquet", edit)


FAULTS: list[tuple[tuple[Change, ...], set[tuple[str, str, str]]]] = [
    ((lose_a_row,), {("critical", "together", "rows lost or added"), ("critical", "together", "lost events")}),
    (
        (add_a_foreign_row,),
        {("critical", "together", "rows lost or added"), ("critical", "together", "foreign events")},
    ),
    ((exchange_a_row,), {("critical", "together", "lost events"), ("critical", "together", "repeated events")}),
    (
        (lose_a_column, store_another_type, lose_a_file),
        {("critical", split, "column of another type") for split in SPLITS},
    ),
    ((empty_a_split,), {("critical", "valid", "no rows")}),
    ((overlap,), {("critical", "together", "splits overlap")}),
    (
        (stop_a_view, date_a_view_ahead, empty_a_view, lose_a_view),
        {
            ("critical", "together", "outdated view"),
            ("warning", "together", "view ahead of its time"),
            ("critical", "together", "view without rows"),
            ("warning", "test", "view missing too often"),
        },
    ),
]


def test_a_clean_training_set_passes(project: Path) -> None:
    """Every rule holds on what join wrote; the suites count its rows."""
    suites = check(project / "data")
    assert not failed(suites)
    assert [suite.name for suite in suites] == [*SPLITS, "together"]
    assert suites[-1].rows == 600 == sum(suite.rows for suite in suites[:-1])


@pytest.mark.parametrize(("plants", "rules"), FAULTS, ids=[plants[0].__name__ for plants, _ in FAULTS])
def test_a_planted_fault_is_named(data: Path, plants: tuple[Change, ...], rules: set[tuple[str, str, str]]) -> None:
    """Exactly the rules that the faults break are broken, with the severity that closes the gate or warns."""
    for plant in plants:
        plant(data)
    assert failed(check(data)) == rules


def test_a_split_at_random_may_overlap(data: Path) -> None:
    """Only a split by time has to be in order."""
    overlap(data)
    assert not failed(check(data, by_time=False))


@pytest.mark.parametrize("seed", range(2))
def test_counts_are_those_of_a_plain_comparison(data: Path, seed: int) -> None:
    """Lost, foreign and repeated events: as many as sets and counters of Python say, the first ones named."""
    random = np.random.default_rng(seed)
    accepted = range(600)
    ids = [*random.choice(accepted, 500, replace=False), *random.integers(590, 640, 30)]
    rows = pq.read_table(data / "training/train.parquet").take(pa.array(random.integers(0, 300, len(ids))))
    for name, part in zip(SPLITS, np.array_split(np.arange(len(ids)), 3), strict=True):
        own = replace(rows, "event_id", pa.array(ids, pa.int64())).take(pa.array(part))
        pq.write_table(own, data / f"training/{name}.parquet")
    found = {o.rule.name: o.examples[0] for o in check(data, by_time=False)[-1].failed if o.rule.scope == "row"}
    wanted = {
        "lost events": sorted(set(accepted) - set(ids)),
        "foreign events": sorted(set(ids) - set(accepted)),
        "repeated events": sorted(id_ for id_ in set(ids) if ids.count(id_) > 1),
    }
    for name, events in wanted.items():
        first = found[name][f"first {name.split()[0]}"]
        if name != "foreign events":  # of these, a repeated one stands in several rows
            assert found[name][name] == len(events)
        assert first.split(", ")[0] == str(events[0])


def stage(data: Path) -> dict:
    """The stage itself on `data`; returns its report."""
    world.write_params(data)
    places = {name: Path(name) for name in ("validated", "features", "training")}
    with contextlib.chdir(data):
        inspect_training(schema=Path("schema.json"), **places, report=Path("reports/i.json"), docs=Path("reports/i"))
    return json.loads((data / "reports/i.json").read_text())


def test_the_gate_stays_open_on_a_warning(data: Path) -> None:
    """A view that is missing too often is told, and training goes on."""
    lose_a_view(data)
    report = stage(data)
    assert report["passed"]
    assert [fault["severity"] for fault in report["tables"]["test"]["failed"]] == ["warning"]
    assert "view missing too often" in (data / "reports/i/index.html").read_text()


def test_the_gate_closes_on_a_lost_row(data: Path) -> None:
    """The stage fails with the rule, what was found and what to do next; report and pages are there."""
    lose_a_row(data)
    with pytest.raises(ValidationError, match=r"(?s)gate is closed.*together: lost events.*dvc repro --force join"):
        stage(data)
    report = json.loads((data / "reports/i.json").read_text())
    assert not report["passed"]
    (fault,) = (f for f in report["tables"]["together"]["failed"] if f["rule"] == "lost events")
    assert fault["examples"] == [{"files": "train, valid and test", "lost events": 1, "first lost": "0"}]
    assert "The gate is closed" in (data / "reports/i/index.html").read_text()
