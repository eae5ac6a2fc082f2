"""The scale of a regression target: fitted on training labels, the same in loss and service, kept with the encoder."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.target_scale import TargetScale
from features.schema import Column, DType, Role, Task, TaskKind
from models.evaluation.accuracy import probabilities_of
from models.training.loss import weighted_loss
from serving.ranking.scorer import as_probabilities
from tests.support import world

pytestmark = pytest.mark.unit
SCALES = (TargetScale(12.5, 8.0, None), TargetScale(12.5, 8.0, 0.0), TargetScale(-3.0, 2.0, -10.0))


@pytest.mark.parametrize("scale", SCALES)
def test_an_output_of_0_is_the_mean_and_order_is_kept(scale: TargetScale) -> None:
    """Expected values grow with the outputs and lie above the floor."""
    outputs = np.linspace(-8, 8, 33)
    values = scale.expected(outputs)
    assert scale.expected(np.zeros(1)) == pytest.approx(scale.mean)
    assert (np.diff(values) > 0).all()
    assert values.min() > (-np.inf if scale.floor is None else scale.floor)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), scale=st.sampled_from(SCALES), clicks=st.booleans())
def test_the_loss_is_half_the_squared_error_of_what_is_predicted(seed: int, scale: TargetScale, clicks: bool) -> None:
    """In standard deviations, beside a binary task or alone; an unobserved label adds nothing."""
    random = np.random.default_rng(seed)
    tasks = 1 + clicks
    logits, labels = random.normal(size=(7, tasks)), 10 * random.normal(size=(7, tasks))
    labels[:, :clicks] = labels[:, :clicks] > 0
    labels[2, -1] = np.nan
    targets = [None] * clicks + [scale]
    loss = weighted_loss(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        torch.zeros(7).int(),
        torch.ones(1, tasks).double(),
        [1] * tasks,
        targets=targets,
    )
    predicted = scale.expected(logits[:, -1])
    expected = np.nansum(((predicted - labels[:, -1]) / scale.deviation) ** 2) / 2
    if clicks:
        expected += np.logaddexp(0, np.where(labels[:, 0] == 1, -logits[:, 0], logits[:, 0])).sum()
    assert float(loss) == pytest.approx(expected / 7, rel=1e-9)


def test_evaluate_and_service_give_the_same_values() -> None:
    """Probabilities, classes and expected values of the same logits, in one array."""
    tasks = (Task(name="click"), Task(name="watch", kind=TaskKind.REGRESSION))
    classes = (Task(name="how", kind=TaskKind.MULTI_CLASS, classes=("bus", "car")),)
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    targets = {"watch": SCALES[1]}
    offline = probabilities_of(logits, tasks + classes, targets)
    online = as_probabilities(torch.from_numpy(logits), [1, 1, 2], [None, SCALES[1], None])
    np.testing.assert_allclose(online, offline, rtol=1e-12)
    assert offline[:, 1].max() > 1
    np.testing.assert_allclose(offline[:, 2:].sum(axis=1), 1)


@pytest.mark.parametrize(("minimum", "floor"), [(None, None), (0.0, 0.0), (50.0, None)])
def test_it_is_fitted_on_the_training_labels(tmp_path: Path, minimum: float | None, floor: float | None) -> None:
    """Mean and deviation of the observed labels; the floor is the declared minimum that they lie above."""
    tiny = world.schema()
    watch = Column(name="watch", role=Role.LABEL, dtype=DType.FLOAT32, nullable=True, minimum=minimum)
    schema = dataclasses.replace(
        tiny, events=(*tiny.events, watch), tasks=(*tiny.tasks, Task(name="watch", kind=TaskKind.REGRESSION))
    )
    pq.write_table(pa.table({"watch": pa.array([1.0, 3.0, None, 8.0], pa.float32())}), tmp_path / "train.parquet")
    encoder = fit_encoder(schema, (), tmp_path / "train.parquet", 1)
    assert encoder.targets["watch"] == pytest.approx((4, np.std([1, 3, 8]), floor))
    encoder.write(tmp_path / "encoder.parquet")
    assert Encoder.read(tmp_path / "encoder.parquet") == encoder
    other = fit_encoder(tiny, (), tmp_path / "train.parquet", 1)
    other.write(tmp_path / "other.parquet")
    assert b"targets" not in (tmp_path / "other.parquet").read_bytes()
