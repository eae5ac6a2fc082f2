"""What a model did on its validation rows: scores by cell, and which columns it listens to."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors
from features.schema import Column, DType, Kind, Role, Schema, Task
from models.evaluation.reference_profile import importance, score_cells

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
HEARD = Column(name="heard", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True)
UNHEARD = Column(name="unheard", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC)
SEQUENCE = Column(name="last", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, length=2)
ENCODER = Encoder("scenario", ("a", "b"), (SEQUENCE, HEARD, UNHEARD), {"last": [1]}, {})


class Ear(nn.Module):
    """Logit = the number `heard`."""

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """[B, P] -> [B, 1]."""
        return numeric[:, :1]


def rows(count: int = 4000) -> Tensors:
    """Clicks where `heard` is positive, four times out of five."""
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


def test_a_column_weighs_what_the_model_loses_without_it() -> None:
    """All of its lead over chance for the only column it listens to, nothing for the others; the rows stay whole."""
    given = rows()
    before = given.numeric.copy()
    found = importance(Ear(), given, ENCODER, SCHEMA)
    assert found["heard"] == pytest.approx(0.3, abs=0.05)
    assert (found["unheard"], found["last"]) == (0, 0)
    np.testing.assert_array_equal(given.numeric, before)


def test_a_sample_is_enough() -> None:
    """The importance on a quarter of the rows is nearly that on all."""
    found = importance(Ear(), rows(), ENCODER, SCHEMA, sample=1000)
    assert found["heard"] == pytest.approx(0.3, abs=0.08)


def test_scores_are_told_by_cell_in_bins_of_equal_mass() -> None:
    """Counts, sums of predictions and positives by bin; unobserved labels count as scores only."""
    given = rows()
    probabilities = torch.sigmoid(torch.from_numpy(given.numeric[:, :1])).double().numpy()
    labels = given.labels.copy()
    labels[::2] = np.nan
    cell = score_cells(probabilities, labels, given.scenario, SCHEMA)["a/click"]
    own = given.scenario == 0
    seen = own & ~np.isnan(labels[:, 0])
    assert sum(cell["counts"]) == own.sum()
    assert np.ptp(cell["counts"]) <= 2
    assert (cell["rows"], cell["positives"]) == (seen.sum(), labels[seen].sum())
    assert cell["expected"] == pytest.approx(probabilities[seen].sum())
    assert sum(cell["observed"][2]) == cell["positives"]


def test_later_scores_are_told_on_the_bins_of_the_first() -> None:
    """All scores at the top are all in the last bin."""
    given = rows()
    probabilities = torch.sigmoid(torch.from_numpy(given.numeric[:, :1])).double().numpy()
    first = score_cells(probabilities, given.labels, given.scenario, SCHEMA)
    edges = {name: cell["edges"] for name, cell in first.items()}
    later = score_cells(np.full_like(probabilities, 0.999), given.labels, given.scenario, SCHEMA, edges)
    assert later["b/click"]["edges"] == first["b/click"]["edges"]
    assert later["b/click"]["counts"][-1] == sum(later["b/click"]["counts"])
