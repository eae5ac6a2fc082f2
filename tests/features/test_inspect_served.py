"""The quality gate of features as served: equal where store and log are of one time, closed by a planted difference."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import ValidationError
from features.inspect_served import BOTH, REPORT, inspect_served
from features.quality.served_features import RECOMPUTED
from features.schema import read_views
from serving.events.event_queue import EventQueue
from serving.ranking.request import request_type
from serving.telemetry.impression_log import Impressions
from tests.support import tiny_project, world
from tests.support.feedback import collector, put, write_profiles
from tests.support.impressions import open_log

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("without_data_docs")]

DAY = date(2026, 1, 12)  # after the last of the tiny world, so that the online store holds what was newest then
SERVED_AT = datetime(2026, 1, 12, 12)
ITEMS = [4, 1, 7]


@pytest.fixture(scope="module")
def served(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a collector kept of the features as served: of twelve requests to a ranker, each with three events."""
    root = tmp_path_factory.mktemp("served")
    ranker = tiny_project.ranker(project, root / "registry.db")
    log = open_log(root / "impressions")
    ranker.observers = [_Logged(log)]
    views = read_views(project / "data/features/views.json")
    accepted = request_type(world.schema(), params.load(project / "params.yaml").serve, views)
    for user in range(12):
        ranker.rank(accepted(user_id=user, scenario="search", candidates=ITEMS, context={"hour": 5}))
    log.close()
    queue = EventQueue(root / "events")
    timestamp = (SERVED_AT + timedelta(seconds=9)).replace(tzinfo=UTC)
    pairs = [{"event_id": 10 * user + item, "user_id": user, "item_id": item} for user in range(12) for item in ITEMS]
    put(queue, [pair | {"scenario": "search", "timestamp": timestamp, "click": 0, "order": 0} for pair in pairs])
    write_profiles(root / "ingested", world.tables(rows=600))
    started = collector(root, queue)
    started.receive()
    started.write(SERVED_AT.replace(tzinfo=UTC) + timedelta(days=9))
    return root / "feedback/served"


class _Logged:
    """An observer that logs every request as answered at noon."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def ranked(self, request: Any, result: Any, candidates: Any) -> None:
        """Keep the candidates."""
        self.log.add(Impressions(candidates), served_at=SERVED_AT)


@pytest.fixture
def compared(project: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The arguments of the command."""
    with contextlib.chdir(project):
        data = project / "data"
        yield {
            "schema": data / "schema.json",
            "features": data / "features",
            "first_day": DAY,
            "last_day": DAY,
            "out": tmp_path / "out",
        }


def test_features_as_served_are_those_recomputed(served: Path, compared: dict[str, Any]) -> None:
    """Every column of both views of every impression, side by side in the file."""
    inspect_served(served=served, **compared)
    report = json.loads((compared["out"] / REPORT).read_text())
    assert report["passed"]
    assert {name: suite["rows"] for name, suite in report["tables"].items()} == dict.fromkeys(report["tables"], 36)
    both = pd.read_parquet(compared["out"] / BOTH)
    names = [name for name in both if RECOMPUTED + str(name) in both]
    assert {"price", "city"} <= set(names)
    assert len(both) == 36
    assert len(names) > 10


def test_a_planted_difference_beyond_the_tolerance_closes_the_gate(
    served: Path, compared: dict[str, Any], tmp_path: Path
) -> None:
    """One price of 36 is above 2 %; the message names column, event and both values. Within it nothing closes."""
    path = served / f"day={DAY}" / "part-0.parquet"
    table = pq.read_table(path, partitioning=None)
    changed = tmp_path / "changed" / f"day={DAY}" / "part-0.parquet"
    changed.parent.mkdir(parents=True)
    prices = table["price"].to_pylist()
    planted = table.set_column(
        table.schema.get_field_index("price"), "price", pa.array([1234.5, *prices[1:]], pa.float32())
    )
    pq.write_table(planted, changed)
    with pytest.raises(ValidationError, match=r"features as served differ.*price.*1234\.5"):
        inspect_served(served=tmp_path / "changed", **compared)
    report = json.loads((compared["out"] / REPORT).read_text())
    (failed,) = report["tables"]["item"]["failed"]
    (example,) = failed["examples"]
    assert (example["feature"], example["differing"], example["share"]) == ("price", 1, pytest.approx(1 / 36))
    assert example["recomputed"] == str(prices[0])
    both = pd.read_parquet(compared["out"] / BOTH)
    assert (both["price"] != both[f"{RECOMPUTED}price"]).sum() == 1
    world.write_params(tmp_path, feedback__tolerance=0.03)
    with contextlib.chdir(tmp_path):
        inspect_served(served=tmp_path / "changed", **compared)


def test_days_on_which_nothing_was_served_are_no_fault(served: Path, compared: dict[str, Any]) -> None:
    """The report passes, without a table."""
    inspect_served(served=served, **compared | {"first_day": date(2026, 3, 1), "last_day": date(2026, 3, 2)})
    assert json.loads((compared["out"] / REPORT).read_text())["tables"] == {}
