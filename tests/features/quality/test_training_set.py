"""The quality gate of the training set: a clean one passes, and each kind of damage closes the gate or warns."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from features.quality.gate import SuiteResult
from features.quality.training_set import check_training
from features.schema import SPLITS, read_views
from tests.support import world
from tests.support.damaged_training_set import (
    Damage,
    add_a_foreign_row,
    date_a_view_ahead,
    empty_a_split,
    empty_a_view,
    exchange_a_row,
    lose_a_column,
    lose_a_file,
    lose_a_row,
    lose_a_view,
    overlap,
    replace,
    stop_a_view,
    store_another_type,
)

pytestmark = pytest.mark.integration

SETTINGS = params.Inspect(**world.section("inspect"))


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """A copy of the data of the tiny project, to damage."""
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


FAULTS: list[tuple[tuple[Damage, ...], set[tuple[str, str, str]]]] = [
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


@pytest.mark.parametrize(("damages", "rules"), FAULTS, ids=[damages[0].__name__ for damages, _ in FAULTS])
def test_damage_is_named(data: Path, damages: tuple[Damage, ...], rules: set[tuple[str, str, str]]) -> None:
    """Exactly the rules that the damage breaks are reported, with the severity that closes the gate or warns."""
    for damage in damages:
        damage(data)
    assert failed(check(data)) == rules


def test_a_split_at_random_may_overlap(data: Path) -> None:
    """Only a split by time has to be in order."""
    overlap(data)
    assert not failed(check(data, by_time=False))


@pytest.mark.parametrize("seed", range(2))
def test_counts_are_those_of_a_plain_comparison(data: Path, seed: int) -> None:
    """Lost, foreign and repeated events: as many as by sets and counters of Python, the first ones named."""
    random = np.random.default_rng(seed)
    accepted = range(600)
    ids = [*random.choice(accepted, 500, replace=False), *random.integers(590, 640, 30)]
    rows = pq.read_table(data / "training/train.parquet").take(pa.array(random.integers(0, 300, len(ids))))
    for name, part in zip(SPLITS, np.array_split(np.arange(len(ids)), 3), strict=True):
        own = replace(rows, "event_id", pa.array(ids, pa.int64())).take(pa.array(part))
        pq.write_table(own, data / f"training/{name}.parquet")
    examples = {o.rule.name: o.examples[0] for o in check(data, by_time=False)[-1].failed if o.rule.scope == "row"}
    wanted = {
        "lost events": sorted(set(accepted) - set(ids)),
        "foreign events": sorted(set(ids) - set(accepted)),
        "repeated events": sorted(id_ for id_ in set(ids) if ids.count(id_) > 1),
    }
    for name, events in wanted.items():
        first = examples[name][f"first {name.split()[0]}"]
        if name != "foreign events":  # a repeated one of these has several rows
            assert examples[name][name] == len(events)
        assert first.split(", ")[0] == str(events[0])
