"""models/inference/partial_activations.py: which columns are an item's, and what the first layer makes of each part."""

import dataclasses

import numpy as np
import pytest
import torch

from common.params import Aggregate
from features.aggregate import feature_views
from features.encoding.encoder import Batch, Encoder
from features.schema import Column, DType, Kind, Role, View, inputs
from models.inference.partial_activations import item_columns
from models.inference.ranking import Sharing
from tests.models.inference.test_ranking import ITEMS, network, plainly, request
from tests.support import world


def test_the_parts_add_up_to_the_layer() -> None:
    """The user's share and an item's, biases included once, are what the first layer and the gates make of all of x."""
    made, batch = network(), request(1)
    sharing = Sharing(made, ITEMS)
    user, items = sharing.user(batch), sharing.items(batch)
    with torch.inference_mode():
        x = made.embedding(*(torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric)))
        layer, gates = made.integration.experts.layers[0], made.integration.gates.logits.weight
        hidden = torch.einsum("eui,ni->enu", layer.weight, x) + layer.bias.unsqueeze(1)
        torch.testing.assert_close(user.hidden + items.hidden, hidden)
        torch.testing.assert_close(user.gates + items.gates, gates.flatten(0, 1) @ x.t())


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
