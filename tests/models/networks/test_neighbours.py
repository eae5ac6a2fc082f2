"""What user and item met in the training rows: slow sums, nothing of the own label, and a world where it helps."""

import doctest
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from features.encoding.tensors import Tensors
from models.evaluation.metrics import auc
from models.evaluation.predict import predict
from models.model_folder import NETWORKS
from models.networks import neighbours
from models.networks.hinet import HiNet
from models.networks.neighbours import Neighbours
from models.networks.sparse_embeddings import make_lazy, tables_of
from models.peers.mixtures import MMoE
from models.training.loop import fit, repeatable
from models.training.optim import Recipe
from tests.support.plain_blocks import LAYOUT, rows

USERS, ITEMS, OUTCOMES, WIDTH = 6, 5, 4, 3
SHAPE: dict[str, Any] = {
    "sub_experts": 1,
    "expert_units": (8,),
    "task_experts": 1,
    "shared_experts": 1,
    "task_expert_units": (8,),
    "tower_units": (4,),
    "scenario_width": 4,
    "scenario_heads": False,
}


def met(count: int = 40, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and outcomes of training rows; some pairs come twice, user 5 never."""
    random = torch.Generator().manual_seed(seed)
    user, item, outcome = (torch.randint(high, (count,), generator=random) for high in (USERS - 2, ITEMS - 1, OUTCOMES))
    return user + 1, item + 1, outcome


def made(**others: Any) -> Neighbours:
    """Neighbours of `met` in double precision."""
    torch.manual_seed(0)
    module = Neighbours(users=USERS, items=ITEMS, outcomes=OUTCOMES, width=WIDTH, **others).double()
    module.remember(*met())
    return module


def plainly(module: Neighbours, user: int, item: int, left_out: set[tuple[int, int]]) -> Tensor:
    """Sums v of the user and w of the item, row by row, without the pairs that are left out."""
    users, items, outcomes = (column.tolist() for column in met())
    of_user, of_item = torch.zeros(WIDTH).double(), torch.zeros(WIDTH).double()
    for u, i, outcome in zip(users, items, outcomes, strict=True):
        if (u, i) not in left_out:
            of_user += (u == user) * module.of_items[i * OUTCOMES + outcome]
            of_item += (i == item) * module.of_users[u * OUTCOMES + outcome]
    counts = max(1, users.count(user)), max(1, items.count(item))
    return torch.cat([of_user / counts[0] ** 0.5, of_item / counts[1] ** 0.5])


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation gives what it says."""
    assert doctest.testmod(neighbours).failed == 0


def test_afterwards_every_training_row_counts() -> None:
    """Scored, any pair of ids has the sums over all rows of its user and of its item; unknown ids have zeros."""
    module = made().eval()
    users, items = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS)).T
    expected = [plainly(module, u, i, set()) for u, i in zip(users.tolist(), items.tolist(), strict=True)]
    torch.testing.assert_close(module(users, items), torch.stack(expected))
    assert not module(torch.tensor([0, 5]), torch.tensor([0, 0])).any()


def test_in_training_the_whole_batch_is_left_out() -> None:
    """With no other chance (kept = 1) the sums are those without any row of the batch, repetitions of it included."""
    module = made(kept=1.0).train()
    user, item = (column[:6] for column in met()[:2])
    batch = set(zip(user.tolist(), item.tolist(), strict=True))
    expected = [plainly(module, u, i, batch) for u, i in sorted(batch)]
    found = module(user, item)
    at = [list(zip(user.tolist(), item.tolist(), strict=True)).index(pair) for pair in sorted(batch)]
    torch.testing.assert_close(found[at], torch.stack(expected))


def test_the_gradient_is_that_of_the_sums() -> None:
    """By finite differences, through both tables."""
    module = made(kept=1.0).train()
    user, item = (column[:6] for column in met()[:2])

    def forward(of_items: Tensor, of_users: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"of_items": of_items, "of_users": of_users}, (user, item))

    assert torch.autograd.gradcheck(forward, (module.of_items, module.of_users))


def test_a_share_of_the_other_rows_is_seen_by_a_step() -> None:
    """The mean over many steps is the sum without the batch: what stays is scaled up by what goes."""
    module, other = made(kept=0.5).train(), made(kept=1.0).train()
    user, item = (column[:3] for column in met()[:2])
    torch.manual_seed(1)
    steps = torch.stack([module(user, item).detach() for _ in range(400)])
    assert not torch.equal(steps[0], steps[1])
    torch.testing.assert_close(steps.mean(dim=0), other(user, item).detach(), rtol=0, atol=0.012)


def test_a_row_that_is_no_training_row_has_nothing_in_training() -> None:
    """With a hidden id (0) it cannot be told what to leave out, so there is nothing to see."""
    module = made().train()
    user, item, _ = (column[:3] for column in met())
    found = module(torch.tensor([0, user[1], user[2]]), torch.tensor([item[0], 0, item[2]]))
    assert found.any(dim=1).tolist() == [False, False, True]


def a_network(outcome: Tensor, users: Tensor, items: Tensor) -> HiNet:
    """A small HiNet with neighbours that were told these rows."""
    torch.manual_seed(2)
    network = HiNet(**LAYOUT, **SHAPE, neighbours=OUTCOMES).train()
    network.embedding.neighbours.kept = 1.0  # else the row that is met may be left out by chance
    network.embedding.neighbours.remember(users, items, outcome)
    return network


def test_the_own_label_changes_no_logit_of_a_row_in_training() -> None:
    """Whatever a row's label is, its logits in a step are the same to the bit; those of a row that meets it are not."""
    categorical, bags, numeric, scenario = rows()
    users, items = categorical.T
    outcome = torch.arange(20) % OUTCOMES
    other = next(i for i in range(1, 20) if users[i] == users[0] and items[i] != items[0])
    flipped = outcome.clone()
    flipped[0] = 3 - outcome[0]

    def logits(labels: Tensor, batch: list[int]) -> Tensor:
        network = a_network(labels, users, items)
        torch.manual_seed(5)
        return network(categorical[batch], bags[batch], numeric[batch], scenario[batch])

    assert torch.equal(logits(outcome, [0, 3]), logits(flipped, [0, 3]))
    assert not torch.equal(logits(outcome, [other]), logits(flipped, [other]))


@pytest.mark.parametrize("name", ["hinet", "mmoe"])
def test_neighbours_are_two_more_fields_of_x(name: str) -> None:
    """Of ours and of the peers: behind the fields, in front of the numbers, as wide as an embedding."""
    network: HiNet | MMoE = NETWORKS[name](
        **LAYOUT,
        neighbours=OUTCOMES,
        **(SHAPE if name == "hinet" else {"experts": 2, "expert_units": (8,), "tower_units": (4,)}),
    ).eval()
    categorical, bags, numeric, scenario = rows()
    network.embedding.neighbours.remember(*categorical.T, torch.zeros(20).int())
    x = network.embedding(categorical, bags, numeric)
    torch.testing.assert_close(x[:, 12:20], network.embedding.neighbours(*categorical.T))
    assert torch.equal(x[:, 20:], numeric)
    assert x.shape[1] == network.embedding.width
    assert network(categorical, bags, numeric, scenario).shape == (20, 2)
    assert len(tables_of(network)) == 3, "their tables decay as the others do"


def test_lazy_tables_are_refused() -> None:
    """Most rows of the tables are named in every step: the error says what to switch off."""
    with pytest.raises(ValueError, match="sparse_embeddings and neighbours exclude each other"):
        make_lazy(HiNet(**LAYOUT, **SHAPE, neighbours=2))


def test_without_its_rows_it_says_so() -> None:
    """Nothing is made of zeros in silence."""
    with pytest.raises(ValueError, match="call remember with the training rows first"):
        Neighbours(users=USERS, items=ITEMS, outcomes=2, width=2)(torch.tensor([1]), torch.tensor([1]))


def test_a_share_that_cannot_be_is_refused() -> None:
    """The error has the rule and the number."""
    with pytest.raises(ValueError, match="1 / 256 to 1, but is 0"):
        made(kept=0)


def tensors(users: np.ndarray, items: np.ndarray, labels: np.ndarray) -> Tensors:
    """Rows of a user, an item and a label; one scenario."""
    count = len(users)
    return Tensors(
        categorical=np.stack([users, items], axis=1).astype(np.int32),
        bags=np.zeros((count, 0), np.int32),
        numeric=np.zeros((count, 0), np.float32),
        scenario=np.zeros(count, np.int32),
        labels=labels.astype(np.float32)[:, None],
        event_id=np.arange(count),
        user=users,
    )


def test_what_users_of_few_rows_met_is_found() -> None:
    """Users like the even items or the odd ones, and have five rows each: their ids say little, their rows all.

    A label is turned around with a chance of 0.05. After three passes the network with neighbours is near what can be
    had (AUC 0.95) on rows of the same users that were not learned from; the one without them knows nothing yet.
    """
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(1, 1501), 6)
    items = np.concatenate([random.permutation(20)[:6] for _ in range(1500)]) + 1
    labels = ((users + items) % 2 == 0) ^ (random.random(len(users)) < 0.05)
    last = np.arange(len(users)) % 6 == 5
    train, test = (tensors(users[of], items[of], labels[of]) for of in (~last, last))
    found = {outcomes: _fitted(train, test, outcomes) for outcomes in (0, 2)}
    assert found[2] > 0.9, found
    assert found[0] < 0.6, found


def _fitted(train: Tensors, test: Tensors, outcomes: int) -> float:
    repeatable(1)
    network = HiNet(
        table_rows=(1501, 21),
        categorical_tables=(0, 1),
        bag_tables=(),
        bag_lengths=(),
        numeric=0,
        scenarios=1,
        tasks=1,
        embedding_width=4,
        neighbours=outcomes,
        interactions=("fm",),
        **SHAPE,
    )
    if outcomes:
        user, item = torch.from_numpy(train.categorical.copy()).T
        network.embedding.neighbours.remember(user, item, torch.from_numpy(train.labels[:, 0]).long())
    recipe = Recipe(
        seed=1,
        epochs=3,
        patience=3,
        batch_size=250,
        learning_rate=0.01,
        embedding_weight_decay=1e-4,
        weight_decay=0,
        average=0.9,
        unknown_share=0.02,
    )
    fit(network, train, test, recipe, scenarios=("all",), tasks=("click",), device="cpu")
    return auc(test.labels[:, 0], predict(network, test, "planted", silent=True)[:, 0])
