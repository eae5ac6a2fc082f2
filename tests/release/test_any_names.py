"""The service and the drift window of a world under odd names answer as those of the same world under plain names."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from common import params
from common.params import Drift
from models.model_folder import read_model
from monitoring.detection import drift_report
from release.parity import serve
from serving.ranking.request import request_type
from tests.support import tiny_project, world
from tests.support.named_world import PLAIN_NAMES, Names, other_names

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ODD = other_names(
    user_id="[id]",
    item_id="ключ",
    event_id="$x",
    hour="model_config",
    city='"hi"',
    price="self",
    tags="a__b",
    click="<b>",
    order="it's/no",
    scenario="a.b",
)
PLAIN = Names(PLAIN_NAMES.columns, ODD.scenarios)


def build(root: Path, names: Names, patch: pytest.MonkeyPatch) -> Path:
    """The tiny project under these names; returns its root."""
    schema, tables = names.schema(), names.tables(world.tables(rows=300))
    patch.setattr(world, "schema", lambda: schema)
    patch.setattr(world, "tables", lambda **_: tables)
    weights = dict(zip(schema.task_names, (1.0, 4.0), strict=True))
    return tiny_project.build(root, serve__objective=weights)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny project under plain names, and under odd ones in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("projects") / "day=3 x*[y] it's"
    roots = []
    for name, names in (("plain", PLAIN), ("odd", ODD)):
        (folder / name).mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            roots.append(build(folder / name, names, patch))
    return roots


def answers(root: Path, scratch: Path) -> NDArray[np.float64]:
    """The probabilities of the service for the impressions of the last days [N, O]."""
    model = read_model(root / tiny_project.MODEL)
    settings = params.load(root / "params.yaml").serve
    ranker = tiny_project.ranker(root, scratch / f"{root.name}.db")
    rows = pq.read_table(root / "data" / "training" / "test.parquet").slice(0, 40)
    return serve(ranker, rows, request_type(model.schema, settings, model.views))


def test_the_service_answers_as_under_plain_names(projects: list[Path], tmp_path: Path) -> None:
    """Every probability is the same: user features from Feast, items from the snapshot, context from the request."""
    plain, odd = (answers(root, tmp_path) for root in projects)
    assert plain.shape == (40, 2)
    np.testing.assert_array_equal(odd, plain)


def test_the_drift_report_is_that_of_plain_names(projects: list[Path]) -> None:
    """Histograms, scores and AUC of a window do not depend on names; a task may hold a slash."""
    documents = []
    for root in projects:
        folder, window = root / tiny_project.MODEL, root / "data" / "training" / "test.parquet"
        limits = Drift(**world.section("drift"))
        documents.append(drift_report.compare(window, read_model(folder), folder, limits))
    plain, odd = documents
    assert [entry["task"] for entry in odd["performance"]] == ["<b>", "it's/no"] * 3
    for part in ("performance", "scores"):
        assert [{**entry, "task": ""} for entry in odd[part]] == [{**entry, "task": ""} for entry in plain[part]]
    assert [column["scenarios"] for column in odd["columns"]] == [column["scenarios"] for column in plain["columns"]]
