"""The rows of the accuracy table: network, its shape, and its hyperparameters."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from common.errors import ParameterError
from common.train_params import Train
from common.yaml_file import read_yaml
from models.training.configuration import recipe_of
from models.training.optim import Recipe

ROWS = Path(__file__).with_name("accuracy.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Changes(_Section):
    embedding_width: int | None = None
    neighbours: bool = False
    auxiliary: bool = False
    members: int | None = Field(default=None, ge=1)  # None: one, or those of the additions
    recipe: dict[str, Any] = {}
    shape: dict[str, Any] = {}


class _Row(_Changes):
    network: str
    additions: bool = False


class _Protocol(_Section):
    embedding_width: int | None = None
    auxiliary: list[str] = []
    recipe: dict[str, Any] = {}
    shape: dict[str, dict[str, Any]] = {}  # by network
    additions: _Changes = _Changes()  # of rows with `additions`


class _Table(_Section):
    protocols: dict[str, _Protocol]
    rows: dict[str, _Row]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: the name of its network, the params.train of the row, and whether the network has neighbours.

    `auxiliary` are tasks of the protocol that are learned too, and not measured. `members` is the number of networks of
    an ensemble, each with its own seed, whose logits are averaged.
    """

    name: str
    network: str
    train: Train
    neighbours: bool = False
    auxiliary: tuple[str, ...] = ()
    members: int = 1

    @property
    def recipe(self) -> Recipe:
        """The hyperparameters."""
        return recipe_of(self.train)

    def facts(self) -> dict[str, Any]:
        """Network, shape and hyperparameters of the row as plain data."""
        recipe = {name: value for name, value in dataclasses.asdict(self.recipe).items() if name != "seed"}
        shape = getattr(self.train, self.network).shape()
        facts = {"network": self.network, "embedding_width": self.train.embedding_width, "shape": shape, **recipe}
        optional = {
            "neighbours": self.neighbours,
            "auxiliary": list(self.auxiliary),
            "members": self.members if self.members > 1 else None,
        }
        return facts | {name: value for name, value in optional.items() if value}


def split_names(models: str) -> list[str]:
    """The names in a list with commas; commas in brackets belong to a name."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", models)]


def read_rows(dataset: str, names: Sequence[str], train: Train, path: Path = ROWS) -> list[Row]:
    """The rows called `names` (`all`: every one) of the table in `path`, on top of params.train.

    Raises ParameterError on a name that is no row, and on a value that no parameter allows.
    """
    table = _Table.model_validate(read_yaml(path))
    wanted = list(table.rows) if "all" in names else list(names)
    if unknown := sorted(set(wanted) - set(table.rows)):
        raise ParameterError(
            f"--models {', '.join(unknown)}: no such row in {path.name}; it has {', '.join(table.rows)}"
        )
    protocol = table.protocols.get(dataset, _Protocol())
    return [_row(name, table.rows[name], protocol, train) for name in wanted]


def _row(name: str, row: _Row, protocol: _Protocol, train: Train) -> Row:
    added = protocol.additions if row.additions else _Changes()
    width = row.embedding_width or added.embedding_width or protocol.embedding_width or train.embedding_width
    section = getattr(train, row.network).model_dump()
    shape = section | protocol.shape.get(row.network, {}) | added.shape | row.shape
    changes = {"embedding_width": width, row.network: shape, **protocol.recipe, **added.recipe, **row.recipe}
    try:
        train = Train.model_validate(train.model_dump() | changes).of_network(row.network)
    except ValueError as error:
        raise ParameterError(f"{ROWS.name}, row {name}: {error}") from error
    return Row(
        name=name,
        network=row.network,
        train=train,
        neighbours=row.neighbours or added.neighbours,
        auxiliary=tuple(protocol.auxiliary) if row.auxiliary or added.auxiliary else (),
        members=row.members or added.members or 1,
    )
