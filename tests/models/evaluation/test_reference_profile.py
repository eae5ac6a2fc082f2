"""The reference profile: scores by cell, and the permutation importance of the columns."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors
from features.schema import Column, DType, Kind, Role, Schema, Task
from models.evaluation.reference_profile import permutation_importance, score_cells

pytestmark = pytest.mark.unit

ID = {"dtype": DType.INT64, "kind": Kind.CATEGORICAL}
SCHEMA = Schema(
    name="two",
    scenarios=("a", "b"),
    tasks=(Task(name="click"),),
    events=(
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP),
        Column(name="user_id", role=Role.USER, **ID),
        Column(name="item_id", role=Role.ITEM, **ID),
        Column(name="scenario", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=("a", "b")),
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, values=(0, 1)),
    ),
    users=(Column(name="user_id", role=Role.USER, **ID),),
    items=(Column(name="item_id", role=Role.ITEM, **ID),),
)
USED = Column(name="used", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True)
UNUSED = Column(name="unused", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC)
SEQUENCE = Column(name="last", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, length=2)
ENCODER = Encoder("scenario", ("a", "b"), (SEQUENCE, USED, UNUSED), {"last": [1]}, {})


class OneColumn(nn.Module):
    """Logit = the number `used`."""

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """[B, P] -> [B, 1]."""
        return numeric[:, :1]


def rows(count: int = 4000) -> Tensors:
    """Clicks where `used` is positive, four times out of five."""
    random = np.random.default_rng(0)
    numeric = random.normal(size=(count, 3)).astype(np.float32)
    labels = ((numeric[:, :1] > 0) ^ (random.random((count, 1)) < 0.2)).astype(np.float32)
    return Tensors(
        categorical=np.empty((count, 0), np.int32),
        bags=np.zeros((count, 2), np.int32),
        numeric=numeric,
        scenario=random.integers(0, 2, count, dtype=np.int32),
        labels=labels,
        event_id=np.arange(count),
        user=np.arange(count),
    )


def test_the_importance_of_a_column_is_the_loss_of_auc_without_it() -> None:
    """The whole gain over an AUC of 0.5 for the only column in use, 0 for the others; the rows are not changed."""
    encoded = rows()
    before = encoded.numeric.copy()
    importance = permutation_importance(OneColumn(), encoded, ENCODER, SCHEMA)
    assert importance["used"] == pytest.approx(0.3, abs=0.05)
    assert (importance["unused"], importance["last"]) == (0, 0)
    np.testing.assert_array_equal(encoded.numeric, before)


def test_a_sample_is_enough() -> None:
    """The importance on a quarter of the rows is nearly that on all."""
    importance = permutation_importance(OneColumn(), rows(), ENCODER, SCHEMA, sample=1000)
    assert importance["used"] == pytest.approx(0.3, abs=0.08)


def test_scores_are_by_cell_in_bins_of_equal_mass() -> None:
    """Counts, sums of predictions and positives by bin; unobserved labels count as scores only."""
    encoded = rows()
    probabilities = torch.sigmoid(torch.from_numpy(encoded.numeric[:, :1])).double().numpy()
    labels = encoded.labels.copy()
    labels[::2] = np.nan
    cell = score_cells(probabilities, labels, encoded.scenario, SCHEMA)["a/click"]
    own = encoded.scenario == 0
    observed = own & ~np.isnan(labels[:, 0])
    assert sum(cell["counts"]) == own.sum()
    assert np.ptp(cell["counts"]) <= 2
    assert (cell["rows"], cell["positives"]) == (observed.sum(), labels[observed].sum())
    assert cell["expected"] == pytest.approx(probabilities[observed].sum())
    assert sum(cell["observed"][2]) == cell["positives"]


def test_later_scores_are_on_the_bins_of_the_first() -> None:
    """All scores at the top are all in the last bin."""
    encoded = rows()
    probabilities = torch.sigmoid(torch.from_numpy(encoded.numeric[:, :1])).double().numpy()
    first = score_cells(probabilities, encoded.labels, encoded.scenario, SCHEMA)
    edges = {name: cell["edges"] for name, cell in first.items()}
    later = score_cells(np.full_like(probabilities, 0.999), encoded.labels, encoded.scenario, SCHEMA, edges)
    assert later["b/click"]["edges"] == first["b/click"]["edges"]
    assert later["b/click"]["counts"][-1] == sum(later["b/click"]["counts"])
