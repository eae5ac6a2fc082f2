"""Predictions and mean gates of a network, batch by batch, and the file that keeps them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import ModelError
from models.evaluation import predict
from tests.support.evaluation import SCHEMA, encoded_rows, small_hinet

pytestmark = pytest.mark.unit


def test_predictions_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows at a time, or all at once: the same logits, up to rounding."""
    test, _ = encoded_rows(count=50)
    expected = small_hinet()(*(torch.from_numpy(getattr(test, name)) for name in predict.INPUTS)).detach()
    monkeypatch.setattr(predict, "BATCH_ROWS", 7)
    np.testing.assert_allclose(predict.predict(small_hinet(), test, "hinet"), expected, atol=1e-6)


def test_a_logit_that_is_not_finite_is_an_error() -> None:
    """The message names the model and counts the rows."""
    network = small_hinet()
    network.towers.logits.bias.data.fill_(np.nan)
    with pytest.raises(ModelError, match="model hinet: 600 of 600 rows have a logit that is not finite"):
        predict.predict(network, encoded_rows()[0], "hinet")


def test_mean_gates_are_the_means_of_the_rows_of_each_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a mean over the rows of each scenario, for every gate; no rows give NaN."""
    test, _ = encoded_rows(count=80)
    test.scenario[test.scenario == 2] = 0
    whole = small_hinet().gates(*(torch.from_numpy(getattr(test, name)) for name in predict.INPUTS))
    monkeypatch.setattr(predict, "BATCH_ROWS", 7)
    means = predict.mean_gates(small_hinet(), test, "hinet")
    assert set(means) == set(whole)
    for gate, weights in whole.items():
        for scenario in (0, 1):
            np.testing.assert_allclose(means[gate][scenario], weights[test.scenario == scenario].mean(0), atol=1e-6)
        assert np.isnan(means[gate][2]).all()


def test_predictions_are_kept_as_they_are(tmp_path: Path) -> None:
    """Event, scenario, labels with null where unobserved, and the logits to the bit."""
    test, _ = encoded_rows(count=30)
    test.labels[3, 1] = np.nan
    logits = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    predict.write_predictions(tmp_path / "new" / "hinet.parquet", logits, test, SCHEMA)
    table = pq.read_table(tmp_path / "new" / "hinet.parquet")
    assert table.column_names == ["event_id", "scenario", "click", "logit_click", "order", "logit_order"]
    assert table["event_id"].to_pylist() == test.event_id.tolist()
    assert table["scenario"].to_pylist() == [SCHEMA.scenarios[code] for code in test.scenario]
    assert table["order"].to_pylist()[3] is None
    assert table["click"].to_pylist() == test.labels[:, 0].tolist()
    np.testing.assert_array_equal(table["logit_order"].to_numpy(), logits[:, 1])
