"""Batches of encoded rows: every row once per epoch, in a new order each time, in memory or not."""

import numpy as np
import pytest
import torch

from features.encoding.tensors import Tensors
from models.training import batches as module
from models.training.batches import BatchLoader, Draws, TensorBatch

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")


def numbered(count: int) -> Tensors:
    """Rows that carry their own number in every column."""
    number = np.arange(count)
    return Tensors(
        categorical=number[:, None].repeat(2, 1).astype("int32"),
        bags=number[:, None].astype("int32"),
        numeric=number[:, None].astype("float32"),
        scenario=number.astype("int32"),
        labels=number[:, None].astype("float32"),
        event_id=number,
        user=number,
    )


def numbers(batches: list[TensorBatch]) -> list[int]:
    """The rows' numbers, after a check that all columns of a row have the same one."""
    for batch in batches:
        for column in batch[:3]:
            assert torch.equal(column[:, 0].long(), batch.scenario.long())
    return torch.cat([batch.scenario for batch in batches]).tolist()


@pytest.fixture(params=["resident", "in chunks"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BatchLoader:
    """103 rows that fit, or of which 30 do, in blocks of 10."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    monkeypatch.setattr(module, "SCORE_ROWS", 40)
    row_bytes = 4 * (2 + 1 + 1 + 1 + 1)
    loader = BatchLoader(numbered(103), CPU, resident_bytes=(1000 if request.param == "resident" else 30) * row_bytes)
    assert (loader.resident is not None) == (request.param == "resident")
    return loader


def test_every_row_comes_once_per_epoch(rows: BatchLoader) -> None:
    """The batches of an epoch hold each row exactly once, and no batch is larger than requested."""
    batches = list(rows.shuffled(8, torch.Generator().manual_seed(0)))
    assert sorted(numbers(batches)) == list(range(103))
    assert max(len(batch.scenario) for batch in batches) == 8


def test_fault_7_rows_are_shuffled_anew_each_epoch(rows: BatchLoader) -> None:
    """Two epochs have different orders, neither that of the file; the same seed gives the same order."""
    first, second, again = (numbers(list(rows.shuffled(8, torch.Generator().manual_seed(s)))) for s in (1, 2, 1))
    assert first == again
    assert first != second
    assert first != list(range(103))
    assert np.abs(np.corrcoef(first, np.arange(103))[0, 1]) < 0.5


def test_rows_come_in_order_for_scoring(rows: BatchLoader) -> None:
    """Without a shuffle the rows are in the order of the files."""
    assert numbers(list(rows.in_order())) == list(range(103))


def test_rows_that_do_not_fit_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is no larger than `resident_bytes`."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    rows = BatchLoader(numbered(103), CPU, resident_bytes=30 * 24)
    assert max(len(rows._load(chunk).scenario) for chunk in rows._chunks(torch.Generator())) == 30


def test_masked_ids_are_0_and_padding_stays() -> None:
    """About the requested share becomes 0; padding (-1) stays padding; numbers and labels are unchanged."""
    batch = TensorBatch(
        categorical=torch.full((1000, 4), 7),
        bags=torch.tensor([[5, -1]] * 1000),
        numeric=torch.ones(1000, 1),
        scenario=torch.ones(1000).int(),
        labels=torch.ones(1000, 1),
        position=torch.ones(1000, 0),
        weight=torch.empty(1000, 0),
    )
    masked = batch.mask_ids(0.2, Draws(torch.Generator().manual_seed(0)))
    assert (masked.categorical == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert (masked.bags[:, 0] == 0).float().mean().item() == pytest.approx(0.2, abs=0.05)
    assert set(masked.bags[:, 1].tolist()) == {-1}
    assert masked[2:] == batch[2:]
    assert batch.mask_ids(0, Draws(torch.Generator())) is batch
