"""models/networks/neighbours.py: sums over training rows, no leak of a row's own label, and a case where they help."""

import doctest
from typing import Any

import pytest
import torch
from torch import Tensor

from models.model_folder import build_network
from models.networks import neighbours
from models.networks.hinet import HiNet, HiNetConfig
from models.networks.neighbours import Neighbours
from models.networks.sparse_embeddings import embeddings_of, use_sparse_gradients
from tests.support.plain_blocks import DATA, rows

pytestmark = pytest.mark.unit
USERS, ITEMS, OUTCOMES, WIDTH = 6, 5, 4, 3
CONFIG: dict[str, Any] = {
    "embedding_width": 4,
    "sub_experts": 1,
    "expert_units": (8,),
    "task_experts": 1,
    "shared_experts": 1,
    "task_expert_units": (8,),
    "tower_units": (4,),
    "scenario_width": 4,
}
MMOE: dict[str, Any] = {"embedding_width": 4, "experts": 2, "expert_units": (8,), "tower_units": (4,)}


def training_rows(count: int = 40, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and outcomes of training rows; some pairs occur twice, user 5 never."""
    random = torch.Generator().manual_seed(seed)
    user, item, outcome = (torch.randint(high, (count,), generator=random) for high in (USERS - 2, ITEMS - 1, OUTCOMES))
    return user + 1, item + 1, outcome


def module_of_rows(**options: Any) -> Neighbours:
    """Neighbours of `training_rows` in double precision."""
    torch.manual_seed(0)
    module = Neighbours(users=USERS, items=ITEMS, outcomes=OUTCOMES, width=WIDTH, **options).double()
    module.set_training_rows(*training_rows())
    return module


def plain_sums(module: Neighbours, user: int, item: int, left_out: set[tuple[int, int]]) -> Tensor:
    """Sums v of the user and w of the item, row by row, without the pairs that are left out."""
    users, items, outcomes = (column.tolist() for column in training_rows())
    user_sum, item_sum = torch.zeros(WIDTH).double(), torch.zeros(WIDTH).double()
    for u, i, outcome in zip(users, items, outcomes, strict=True):
        if (u, i) not in left_out:
            user_sum += (u == user) * module.of_items[i * OUTCOMES + outcome]
            item_sum += (i == item) * module.of_users[u * OUTCOMES + outcome]
    counts = max(1, users.count(user)), max(1, items.count(item))
    return torch.cat([user_sum / counts[0] ** 0.5, item_sum / counts[1] ** 0.5])


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(neighbours).failed == 0


def test_in_scoring_every_training_row_counts() -> None:
    """Any pair of ids has the sums over all rows of its user and of its item; unknown ids have zeros."""
    module = module_of_rows().eval()
    users, items = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS)).T
    expected = [plain_sums(module, u, i, set()) for u, i in zip(users.tolist(), items.tolist(), strict=True)]
    torch.testing.assert_close(module(users, items), torch.stack(expected))
    assert not module(torch.tensor([0, 5]), torch.tensor([0, 0])).any()


def test_in_training_the_whole_batch_is_left_out() -> None:
    """Without sampling (kept = 1) the sums are those without any row of the batch, repetitions of it included."""
    module = module_of_rows(kept=1.0).train()
    user, item = (column[:6] for column in training_rows()[:2])
    batch = set(zip(user.tolist(), item.tolist(), strict=True))
    expected = [plain_sums(module, u, i, batch) for u, i in sorted(batch)]
    sums = module(user, item)
    index = [list(zip(user.tolist(), item.tolist(), strict=True)).index(pair) for pair in sorted(batch)]
    torch.testing.assert_close(sums[index], torch.stack(expected))


def test_the_gradient_is_that_of_the_sums() -> None:
    """By finite differences, through both embeddings."""
    module = module_of_rows(kept=1.0).train()
    user, item = (column[:6] for column in training_rows()[:2])

    def forward(of_items: Tensor, of_users: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"of_items": of_items, "of_users": of_users}, (user, item))

    assert torch.autograd.gradcheck(forward, (module.of_items, module.of_users))


def test_a_step_uses_a_share_of_the_other_rows() -> None:
    """The mean over many steps is the sum without the batch: the rows that stay are scaled by 1 / share."""
    module, other = module_of_rows(kept=0.5).train(), module_of_rows(kept=1.0).train()
    user, item = (column[:3] for column in training_rows()[:2])
    torch.manual_seed(1)
    steps = torch.stack([module(user, item).detach() for _ in range(400)])
    assert not torch.equal(steps[0], steps[1])
    torch.testing.assert_close(steps.mean(dim=0), other(user, item).detach(), rtol=0, atol=0.012)


def test_in_training_other_rows_have_zeros() -> None:
    """With a hidden id (0) the row to leave out is unknown, so its sums are zeros."""
    module = module_of_rows().train()
    user, item, _ = (column[:3] for column in training_rows())
    sums = module(torch.tensor([0, user[1], user[2]]), torch.tensor([item[0], 0, item[2]]))
    assert sums.any(dim=1).tolist() == [False, False, True]


def network_with_neighbours(outcome: Tensor, users: Tensor, items: Tensor) -> HiNet:
    """A small HiNet whose neighbours have these training rows."""
    torch.manual_seed(2)
    network = HiNet(DATA, HiNetConfig(**CONFIG, neighbours=OUTCOMES)).train()
    network.embedding.neighbours.kept = 1.0  # else sampling may leave out the row in question
    network.embedding.neighbours.set_training_rows(users, items, outcome)
    return network


def test_in_training_a_rows_own_label_changes_none_of_its_logits() -> None:
    """In a step a row's logits are the same to the bit for every label; those of the user's other rows differ."""
    categorical, bags, numeric, scenario = rows()
    users, items = categorical.T
    outcome = torch.arange(20) % OUTCOMES
    other = next(i for i in range(1, 20) if users[i] == users[0] and items[i] != items[0])
    flipped = outcome.clone()
    flipped[0] = 3 - outcome[0]

    def logits(labels: Tensor, batch: list[int]) -> Tensor:
        network = network_with_neighbours(labels, users, items)
        torch.manual_seed(5)
        return network(categorical[batch], bags[batch], numeric[batch], scenario[batch])

    assert torch.equal(logits(outcome, [0, 3]), logits(flipped, [0, 3]))
    assert not torch.equal(logits(outcome, [other]), logits(flipped, [other]))


@pytest.mark.parametrize("name", ["hinet", "mmoe"])
def test_neighbours_are_two_more_fields_of_x(name: str) -> None:
    """In HiNet and in the peers: after the fields, before the numbers, as wide as an embedding."""
    config = (CONFIG if name == "hinet" else MMOE) | {"neighbours": OUTCOMES}
    network = build_network(name, {"data": vars(DATA), "config": config}).eval()
    categorical, bags, numeric, scenario = rows()
    network.embedding.neighbours.set_training_rows(*categorical.T, torch.zeros(20).int())
    x = network.embedding(categorical, bags, numeric)
    torch.testing.assert_close(x[:, 12:20], network.embedding.neighbours(*categorical.T))
    assert torch.equal(x[:, 20:], numeric)
    assert x.shape[1] == network.embedding.width
    assert network(categorical, bags, numeric, scenario).shape == (20, 2)
    assert len(embeddings_of(network)) == 3, "they decay as the other embeddings do"


def test_sparse_embeddings_are_refused() -> None:
    """Every step reads most rows of the embeddings: the error says what to switch off."""
    with pytest.raises(ValueError, match="sparse_embeddings and neighbours exclude each other"):
        use_sparse_gradients(HiNet(DATA, HiNetConfig(**CONFIG, neighbours=2)))


def test_neighbours_without_rows_are_refused() -> None:
    """Zeros are not returned silently."""
    with pytest.raises(ValueError, match="call set_training_rows first"):
        Neighbours(users=USERS, items=ITEMS, outcomes=2, width=2)(torch.tensor([1]), torch.tensor([1]))


def test_an_impossible_share_is_refused() -> None:
    """The error states the rule and the number."""
    with pytest.raises(ValueError, match="1 / 256 to 1, but is 0"):
        module_of_rows(kept=0)
