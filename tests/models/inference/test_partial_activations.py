"""models/inference/partial_activations.py: which columns are the item's, and the first layer's outputs from them."""

import dataclasses

import numpy as np
import pytest
import torch

from common.params import Aggregate
from features.encoding.encoder import Batch, Encoder
from features.engine.feature_views import feature_views
from features.schema import Column, DType, Kind, Role, View, inputs
from models.inference.fused import FusedHiNet
from models.inference.partial_activations import ColumnEmbedding, ColumnIndices, item_columns, remaining_columns
from tests.support import world
from tests.support.fused_requests import ITEM_COLUMNS, forward, network, request

pytestmark = pytest.mark.unit


def test_partial_activations_add_up_to_the_first_layer() -> None:
    """The user's and an item's, biases included once, are the outputs of the first layer and the gates for all of x."""
    made, batch = network(), request(1)
    fused = FusedHiNet(made, ITEM_COLUMNS)
    user, items = fused.user(batch), fused.items(batch)
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
    """An encoder with empty vocabularies."""
    tables = {column.vocabulary: [] for column in columns if column.has_vocabulary}
    return Encoder("scenario", world.schema().scenarios, columns, tables, {c.name: (0.0, 1.0) for c in columns})


def test_the_items_columns_are_its_id_and_its_views() -> None:
    """The indices are those of the encoder's output: a nullable number has two, a list one bag."""
    schema = world.schema()
    columns = inputs(schema, views())
    indices = item_columns(encoder(columns), schema, views())
    categorical = [c.name for c in columns if c.kind is Kind.CATEGORICAL]
    numbers = [c.name for c in columns if c.kind is Kind.NUMERIC for _ in range(1 + c.nullable)]
    assert [categorical[i] for i in indices.categorical] == ["item_id"]
    assert [[c.name for c in columns if c.is_list][i] for i in indices.bags] == ["tags"]
    named = [numbers[i] for i in indices.numeric]
    assert named.count("price") == 2
    assert set(named) == {c.name for c in views()[1].columns if c.kind is Kind.NUMERIC}


def test_features_by_pair_cannot_be_cached_per_item() -> None:
    """A view by user and item that the encoder reads is refused by name; one that it does not read is ignored."""
    schema = world.schema()
    seen = Column(name="times_seen", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.NUMERIC)
    pair = View(name="user_and_item", keys=("user_id", "item_id"), columns=(seen,))
    columns = inputs(schema, views())
    assert item_columns(encoder(columns), schema, (*views(), pair)) == item_columns(encoder(columns), schema, views())
    with pytest.raises(ValueError, match="user_and_item"):
        item_columns(encoder((*columns, seen)), schema, (*views(), pair))


def test_an_encoded_request_is_ranked_from_its_layout() -> None:
    """From the encoder's layout and the declared columns alone: the logits of the network's forward."""
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
    fused = FusedHiNet(made, items)
    logits = fused.rank(fused.user(batch), fused.items(batch), 1)
    torch.testing.assert_close(logits, forward(made, batch), rtol=0, atol=1e-5)


def test_the_remaining_columns_are_all_others() -> None:
    """Of four categorical columns, two bags and four numbers those that are not the item's."""
    expected = ColumnIndices(categorical=(0, 2), bags=(1,), numeric=(0, 3))
    assert remaining_columns(network().embedding, ITEM_COLUMNS) == expected


def test_some_columns_are_embedded_as_all_are() -> None:
    """The item's columns of x: embedded ids 1 and 3, the mean of bag 0 (zeros where it is empty), numbers 1 and 2."""
    made, batch = network(), request(1)
    with torch.no_grad():
        x = made.embedding(*(torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric)))
    part = ColumnEmbedding(made.embedding, ITEM_COLUMNS)(batch)
    torch.testing.assert_close(part, torch.cat([x[:, 4:8], x[:, 12:20], x[:, 25:27]], dim=1))


@pytest.mark.parametrize("vectors", [(3, 2), (2, 3), (5,)])
def test_vectors_are_projected_on_their_own_side(vectors: tuple[int, ...]) -> None:
    """An item's vector and a user's: the same columns of x, and the logits of the network's forward."""
    made, batch = network(numeric=4 + sum(vectors), vectors=vectors), request(2)
    random, rows = np.random.default_rng(5), len(batch.scenario)
    of_items, *of_users = (random.normal(size=(rows, length)).astype(np.float32) for length in vectors)
    of_users = [np.repeat(vector[:1], rows, axis=0) for vector in of_users]
    batch = dataclasses.replace(batch, numeric=np.concatenate([batch.numeric, of_items, *of_users], axis=1))
    items = ITEM_COLUMNS._replace(numeric=(*ITEM_COLUMNS.numeric, *range(4, 4 + vectors[0])))
    with torch.no_grad():
        x = made.embedding(*(torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric)))
    width = 4 * (6 + len(vectors))
    expected = torch.cat([x[:, 4:8], x[:, 12:20], x[:, 24:28], x[:, width + 1 : width + 3]], dim=1)
    torch.testing.assert_close(ColumnEmbedding(made.embedding, items)(batch), expected)
    fused = FusedHiNet(made, items)
    for logits in (fused.rank(fused.user(batch), fused.items(batch), 2), fused.rank_rows(fused.user(batch), batch, 2)):
        torch.testing.assert_close(logits, forward(made, batch), rtol=0, atol=1e-5)
