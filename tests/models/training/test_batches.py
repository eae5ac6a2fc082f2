"""Rows on their way to the device: every row once per epoch, in a new order each time, in memory or not."""

import numpy as np
import pytest
import torch

from features.encoding.tensors import Tensors
from models.training import batches as module
from models.training.batches import Part, Rows

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


def numbers(parts: list[Part]) -> list[int]:
    """The rows' numbers, after a look whether their columns still belong together."""
    for part in parts:
        for column in part[:3]:
            assert torch.equal(column[:, 0].long(), part.scenario.long())
    return torch.cat([part.scenario for part in parts]).tolist()


@pytest.fixture(params=["resident", "in chunks"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """103 rows that fit, or of which 30 do, in blocks of 10."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    monkeypatch.setattr(module, "SCORE_ROWS", 40)
    row_bytes = 4 * (2 + 1 + 1 + 1 + 1)
    made = Rows(numbered(103), CPU, resident_bytes=(1000 if request.param == "resident" else 30) * row_bytes)
    assert (made.resident is not None) == (request.param == "resident")
    return made


def test_every_row_comes_once_per_epoch(rows: Rows) -> None:
    """The batches of an epoch hold each row exactly once, and no batch is larger than asked for."""
    parts = list(rows.shuffled(8, torch.Generator().manual_seed(0)))
    assert sorted(numbers(parts)) == list(range(103))
    assert max(len(part.scenario) for part in parts) == 8


def test_fault_7_rows_are_shuffled_anew_each_epoch(rows: Rows) -> None:
    """Two epochs have different orders, neither that of the file; the same seed gives the same order."""
    first, second, again = (numbers(list(rows.shuffled(8, torch.Generator().manual_seed(s)))) for s in (1, 2, 1))
    assert first == again
    assert first != second
    assert first != list(range(103))
    assert np.abs(np.corrcoef(first, np.arange(103))[0, 1]) < 0.5


def test_rows_come_in_order_for_scoring(rows: Rows) -> None:
    """Without a shuffle the rows come as they lie."""
    assert numbers(list(rows.in_order())) == list(range(103))


def test_rows_that_do_not_fit_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is no larger than the memory it was given."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    rows = Rows(numbered(103), CPU, resident_bytes=30 * 24)
    assert max(len(rows._load(chunk).scenario) for chunk in rows._chunks(torch.Generator())) == 30


def test_hidden_ids_are_row_0_and_padding_stays() -> None:
    """About the share asked for becomes 0; what is padding (-1) stays padding; numbers and labels are untouched."""
    part = Part(
        categorical=torch.full((1000, 4), 7),
        bags=torch.tensor([[5, -1]] * 1000),
        numeric=torch.ones(1000, 1),
        scenario=torch.ones(1000).int(),
        labels=torch.ones(1000, 1),
    )
    hidden = part.hide(0.2, torch.Generator().manual_seed(0))
    assert (hidden.categorical == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert (hidden.bags[:, 0] == 0).float().mean().item() == pytest.approx(0.2, abs=0.05)
    assert set(hidden.bags[:, 1].tolist()) == {-1}
    assert hidden[2:] == part[2:]
    assert part.hide(0, torch.Generator()) is part
