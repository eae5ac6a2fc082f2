"""models/ranking.py: a user's and items' shares of the first layer add up to the plain forward."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import world
from torch import Tensor

from features.aggregate import feature_views
from features.encode import Batch, Encoder
from features.schema import Column, DType, Kind, Role, View, inputs
from models import ranking
from models.hinet import HiNet
from models.ranking import Columns, Sharing, item_columns
from params import Aggregate

SHAPE: dict[str, Any] = {
    "table_rows": (11, 7, 5), "categorical_tables": (0, 1, 1, 2), "bag_tables": (2, 0), "bag_lengths": (3, 2),
    "numeric": 4, "scenarios": 4, "tasks": 2, "embedding_width": 4, "sub_experts": 3, "expert_units": (9, 6),
    "task_experts": 2, "shared_experts": 1, "task_expert_units": (8, 5), "tower_units": (7,), "scenario_width": 5,
    "scenario_heads": False,
}  # fmt: skip
ITEMS = Columns(categorical=(1, 3), bags=(0,), numeric=(1, 2))  # the second number is null where the third is 1
ROWS = 50


def network(**changes: Any) -> HiNet:
    """A small HiNet whose logits are as large as trained ones."""
    torch.manual_seed(3)
    made = HiNet(**SHAPE | changes)
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
        batch.categorical[:, [1, 3]], batch.bags[:, :3], batch.numeric[:, 1:3],
    )  # fmt: skip
    return Batch(categorical, bags, numeric, strange.scenario)


@pytest.mark.parametrize("together", [0, ranking.TOGETHER])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"scenario_heads": True}, {"scenarios": 1}, {"scenarios": 2}, {"scenario_attention": False},
        {"normalize": True}, {"expert_units": (6,)}, {"expert_units": (9, 7, 6), "tower_units": (7, 3)},
    ],
    ids=str,
)  # fmt: skip
def test_shares_add_up_to_the_plain_forward(
    changes: dict[str, Any], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept shares of items, all or picked ones, and shares made in the request give the plain logits, to 1e-5."""
    monkeypatch.setattr(ranking, "TOGETHER", together)
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


def test_what_an_item_takes() -> None:
    """The kept share of an item is (1 + M) K (U + 1) floats, and `bytes_per_item` says so."""
    sharing = Sharing(network(), ITEMS)
    kept = sharing.items(request(0))
    assert sharing.bytes_per_item == 4 * 5 * 3 * (9 + 1) == sum(part.nbytes for part in kept) / ROWS


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hierarchy": False}, "hierarchy"),
        ({"embedding_sets": 3}, "embedding_sets"),
        ({"interactions": ("fm",)}, r"interactions \['fm'\]"),
    ],
)
def test_networks_that_cannot_share_are_refused(changes: dict[str, Any], named: str) -> None:
    """Where the first layer does not read all of x, or more than it reads x, the error names the option."""
    with pytest.raises(ValueError, match=named):
        Sharing(network(**changes), ITEMS)


def views() -> tuple[View, ...]:
    """The views of the tiny world."""
    return feature_views(world.schema(), Aggregate(**world.section("aggregate")))


def encoder(columns: tuple[Column, ...]) -> Encoder:
    """An encoder that has seen nothing."""
    tables = {column.vocabulary: [] for column in columns if column.kind is not Kind.NUMERIC}
    return Encoder("scenario", world.schema().scenarios, columns, tables, {c.name: (0.0, 1.0) for c in columns})


def test_the_items_columns_are_its_id_and_its_views() -> None:
    """The places are those of the encoder's output: a nullable number takes two, a list one bag."""
    schema = world.schema()
    columns = inputs(schema, views())
    found = item_columns(encoder(columns), schema, views())
    categorical = [c.name for c in columns if c.kind is Kind.CATEGORICAL]
    numbers = [c.name for c in columns if c.kind is Kind.NUMERIC for _ in range(1 + c.nullable)]
    assert [categorical[i] for i in found.categorical] == ["item_id"]
    assert [[c.name for c in columns if c.is_list][i] for i in found.bags] == ["tags"]
    named = [numbers[i] for i in found.numeric]
    assert named.count("price") == 2
    assert set(named) == {c.name for c in views()[1].columns if c.kind is Kind.NUMERIC}


def test_features_by_pair_cannot_be_kept_per_item() -> None:
    """A view by user and item that the encoder reads is refused by name; one that it does not read is no matter."""
    schema = world.schema()
    seen = Column(name="times_seen", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.NUMERIC)
    pair = View(name="user_and_item", keys=("user_id", "item_id"), columns=(seen,))
    columns = inputs(schema, views())
    assert item_columns(encoder(columns), schema, (*views(), pair)) == item_columns(encoder(columns), schema, views())
    with pytest.raises(ValueError, match="user_and_item"):
        item_columns(encoder((*columns, seen)), schema, (*views(), pair))


def test_an_encoded_request_is_ranked_from_its_layout() -> None:
    """From the encoder's layout and the declared columns alone: the logits of the plain forward."""
    schema = world.schema()
    fitted = encoder(inputs(schema, views()))
    layout = dataclasses.asdict(fitted.layout)
    made = network(**layout)
    rows, items = 20, item_columns(fitted, schema, views())
    random = np.random.default_rng(1)
    numeric = random.normal(size=(rows, layout["numeric"])).astype(np.float32)
    shared = [i for i in range(layout["numeric"]) if i not in items.numeric]
    numeric[:, shared] = numeric[0, shared]
    zeros = [np.zeros((rows, n), np.int32) for n in (len(layout["categorical_tables"]), sum(layout["bag_lengths"]))]
    batch = Batch(*zeros, numeric, np.full(rows, 1, np.int32))
    sharing = Sharing(made, items)
    found = sharing.rank(sharing.user(batch), sharing.items(batch), 1)
    torch.testing.assert_close(found, plainly(made, batch), rtol=0, atol=1e-5)
