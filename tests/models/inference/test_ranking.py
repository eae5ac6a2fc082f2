"""models/inference/ranking.py: a user's and items' shares of the first layer add up to the plain forward."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.serving import ranking as benchmark
from common.paths import ROOT
from features.encoding.encoder import Batch
from models.inference import ranking
from models.inference.partial_activations import Columns
from models.inference.ranking import Sharing
from models.networks import cpu_kernels
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig

DATA: dict[str, Any] = {
    "table_rows": (11, 7, 5),
    "categorical_tables": (0, 1, 1, 2),
    "bag_tables": (2, 0),
    "bag_lengths": (3, 2),
    "numeric": 4,
    "scenarios": 4,
    "task_outputs": (1, 1),
}
CONFIG: dict[str, Any] = {
    "embedding_width": 4,
    "sub_experts": 3,
    "expert_units": (9, 6),
    "task_experts": 2,
    "shared_experts": 1,
    "task_expert_units": (8, 5),
    "tower_units": (7,),
    "scenario_width": 5,
    "scenario_heads": False,
}
ITEMS = Columns(categorical=(1, 3), bags=(0,), numeric=(1, 2))  # the second number is null where the third is 1
ROWS = 50


def network(**changes: Any) -> HiNet:
    """A small HiNet whose logits are as large as trained ones."""
    torch.manual_seed(3)
    data, config = ({name: changes.get(name, fields[name]) for name in fields} for fields in (DATA, CONFIG))
    options = {name: value for name, value in changes.items() if name not in DATA}
    made = HiNet(DataSpec(**data), HiNetConfig(**config | options))
    with torch.no_grad():
        for weight in (parameter for parameter in made.parameters() if parameter.dim() == 3):
            weight.normal_(std=(2 / weight.shape[2]) ** 0.5)
        made.embedding.weight.normal_()
    return made.eval()


def request(scenario: int, rows: int = ROWS) -> Batch:
    """Random items beside one random user, in one scenario."""
    random = np.random.default_rng(scenario)
    categorical = random.integers(0, 5, (rows, 4)).astype(np.int32)
    bags = random.integers(-1, 5, (rows, 5)).astype(np.int32)
    bags[0, :3] = -1  # an item with an empty bag
    numeric = random.normal(size=(rows, 4)).astype(np.float32)
    numeric[:, 2] = random.random(rows) < 0.3
    numeric[numeric[:, 2] == 1, 1] = 0
    categorical[:, [0, 2]], bags[:, 3:], numeric[:, [0, 3]] = categorical[0, [0, 2]], bags[0, 3:], numeric[0, [0, 3]]
    return Batch(categorical, bags, numeric, np.full(rows, scenario, np.int32))


def plainly(made: HiNet, batch: Batch) -> Tensor:
    """The logits of the network itself."""
    with torch.inference_mode():
        return made(*(torch.from_numpy(part) for part in vars(batch).values()))


def of_others(batch: Batch) -> Batch:
    """The same items beside other users in other scenarios."""
    strange = request(0, len(batch.scenario))
    categorical, bags, numeric = (part.copy() for part in (strange.categorical, strange.bags, strange.numeric))
    categorical[:, [1, 3]], bags[:, :3], numeric[:, 1:3] = (
        batch.categorical[:, [1, 3]],
        batch.bags[:, :3],
        batch.numeric[:, 1:3],
    )
    return Batch(categorical, bags, numeric, strange.scenario)


@pytest.mark.parametrize("few", [0, ranking.FEW])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scenario_heads": True},
        {"scenarios": 1},
        {"scenarios": 2},
        {"scenario_attention": False},
        {"expert_units": (6,)},
        {"expert_units": (9, 7, 6), "tower_units": (7, 3)},
        {"task_outputs": (3, 1)},
        {"task_outputs": (1, 4), "scenario_heads": True},
    ],
    ids=str,
)
def test_shares_add_up_to_the_plain_forward(changes: dict[str, Any], few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept shares of items, all or picked ones, and shares made in the request give the plain logits, to 1e-5."""
    monkeypatch.setattr(ranking, "FEW", few)
    monkeypatch.setattr(cpu_kernels, "SMALL_PRODUCT", few)
    made = network(**changes)
    sharing = Sharing(made, ITEMS)
    picked = torch.tensor([7, 3, 3, 49, 0])
    for scenario in range(made.scenarios):
        batch = request(scenario)
        expected = plainly(made, batch)
        assert expected.std(dim=0).max() > 0.05  # the items differ
        user, items = sharing.user(batch), sharing.items(of_others(batch))
        same = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(sharing.rank(user, items, scenario), expected, **same)
        torch.testing.assert_close(sharing.rank(user, items, scenario, picked), expected[picked], **same)
        torch.testing.assert_close(sharing.rank_rows(user, batch, scenario), expected, **same)


def test_a_kept_share_serves_again() -> None:
    """Ranking changes neither the kept shares nor the user's: the second answer is the first."""
    sharing, batch = Sharing(network(), ITEMS), request(2)
    user, items = sharing.user(batch), sharing.items(batch)
    assert torch.equal(sharing.rank(user, items, 2), sharing.rank(user, items, 2))


def test_no_items_are_no_logits() -> None:
    """A request without items gets an empty answer."""
    sharing, batch = Sharing(network(), ITEMS), request(0)
    nothing = torch.empty(0, dtype=torch.long)
    assert sharing.rank(sharing.user(batch), sharing.items(batch), 0, nothing).shape == (0, 2)
    none = Batch(*(part[:0] for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario)))
    assert sharing.rank_rows(sharing.user(batch), none, 0).shape == (0, 2)


def test_what_an_item_takes() -> None:
    """The kept share of an item is (1 + M) K (U + 1) floats, and `bytes_per_item` says so."""
    sharing = Sharing(network(), ITEMS)
    kept = sharing.items(request(0))
    assert sharing.bytes_per_item == 4 * 5 * 3 * (9 + 1) == sum(part.nbytes for part in kept) / ROWS


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hierarchy": False}, "hierarchy"),
        ({"interactions": ("fm",)}, r"interactions \['fm'\]"),
        ({"scenario_view": (8, 6)}, "scenario_view"),
        ({"neighbours": 4}, "neighbours are no columns of a row"),
    ],
)
def test_networks_that_cannot_share_are_refused(changes: dict[str, Any], named: str) -> None:
    """Where the first layer does not read all of x, or more than it reads x, the error names the option."""
    with pytest.raises(ValueError, match=named):
        Sharing(network(**changes), ITEMS)


def test_the_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tiny sizes it times every way for each network, number of items and of threads, and finds them equal."""
    monkeypatch.chdir(ROOT)
    before = torch.get_num_threads()
    benchmark.ranking(
        json=tmp_path / "made" / "ranking.json", items=(3, 5), threads=(1,), rounds=2, users=20, catalogue=9
    )
    found = json.loads((tmp_path / "made" / "ranking.json").read_text())["requests"]
    assert [(one["network"], one["items"]) for one in found] == [
        ("params.yaml", 3),
        ("params.yaml", 5),
        ("the authors'", 3),
        ("the authors'", 5),
    ]
    assert all(difference < 1e-5 for one in found for difference in one["largest_difference"].values())
    assert all(set(one["median"]) == {"plain", "kept", "fresh"} for one in found)
    assert torch.get_num_threads() == before
