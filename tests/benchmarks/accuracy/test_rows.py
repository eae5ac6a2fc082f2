"""The rows of the accuracy table, on top of the protocol and of params.train."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy.rows import read_rows, split_names
from common import params
from common.errors import ParameterError
from common.train_params import NetworkUnits
from common.yaml_file import dump_yaml
from models.model_folder import NETWORKS

pytestmark = pytest.mark.unit
TRAIN = params.load().train


def write_table(folder: Path, protocols: dict[str, Any], rows: dict[str, Any]) -> Path:
    """Write a table of rows into the folder; returns its path."""
    path = folder / "rows.yaml"
    path.write_text(dump_yaml({"protocols": protocols, "rows": rows}), encoding="utf-8")
    return path


def test_a_row_changes_the_protocol_which_changes_params(tmp_path: Path) -> None:
    """The protocol's values hold for every row, a row's own come on top; all others are those of params.yaml."""
    table = write_table(
        tmp_path,
        {"here": {"embedding_width": 8, "recipe": {"batch_size": 64}, "shape": {"mmoe": {"experts": 3}}}},
        {
            "plain": {"network": "hinet"},
            "wide": {"network": "hinet", "embedding_width": 32, "shape": {"sub_experts": 7}, "recipe": {"epochs": 2}},
            "mmoe": {"network": "mmoe"},
        },
    )
    plain, wide, mmoe = read_rows("here", ["all"], TRAIN, table)
    assert (plain.train.embedding_width, plain.train.batch_size, plain.train.epochs) == (8, 64, TRAIN.epochs)
    assert plain.facts()["shape"] == TRAIN.hinet.shape()
    assert (wide.train.embedding_width, wide.train.hinet.sub_experts, wide.train.epochs) == (32, 7, 2)
    assert wide.train.batch_size == 64
    assert mmoe.train.mmoe.experts == 3
    (elsewhere,) = read_rows("there", ["plain"], TRAIN, table)
    assert elsewhere.train == TRAIN


def test_a_row_with_additions_may_have_other_members(tmp_path: Path) -> None:
    """It has those of the additions, or as many as it says itself; without additions one."""
    table = write_table(
        tmp_path,
        {"here": {"additions": {"members": 2}}},
        {
            "mmoe": {"network": "mmoe"},
            "mmoe+": {"network": "mmoe", "additions": True},
            "mmoe+ (one member)": {"network": "mmoe", "additions": True, "members": 1},
        },
    )
    assert [row.members for row in read_rows("here", ["all"], TRAIN, table)] == [1, 2, 1]


def test_an_unknown_row_is_refused() -> None:
    """A misspelt model ends the benchmark before it begins; the message names the rows there are."""
    with pytest.raises(ParameterError, match=r"--models hynet.*it has hinet, shared_bottom"):
        read_rows("simulation", ["hinet", "hynet"], TRAIN)


def test_a_name_may_have_commas_in_brackets() -> None:
    """The option is split at the commas between names only."""
    option = "hinet, hinet+ (no auxiliary tasks, width 16),mmoe"
    assert split_names(option) == ["hinet", "hinet+ (no auxiliary tasks, width 16)", "mmoe"]


def test_every_row_of_the_table_is_a_network_that_params_allow() -> None:
    """All rows can be read for every protocol, and all peers are in the table with the same hyperparameters."""
    for dataset in ("movielens-1m", "kuairand-pure", "simulation"):
        rows = {row.name: row for row in read_rows(dataset, ["all"], TRAIN)}
        peers = set(NETWORKS) - {"hinet_plus"}
        assert peers <= set(rows)
        assert len({json.dumps({**rows[name].facts(), "network": "", "shape": ""}) for name in peers}) == 1


@pytest.mark.parametrize("dataset", ["movielens-1m", "kuairand-pure", "simulation"])
def test_every_network_gets_the_additions_of_hinet_plus(dataset: str) -> None:
    """Recipe, members, neighbours, auxiliary tasks and what is added to the logits are those of the row hinet+."""
    rows = [row for row in read_rows(dataset, ["all"], TRAIN) if row.name.endswith("+")]
    assert {row.network for row in rows} > {"hinet_plus", "m3oe", "pepnet", "mmoe"}
    names = set(NetworkUnits.model_fields) - {"recipe"}
    added = [{name: getattr(getattr(row.train, row.network), name) for name in names} for row in rows]
    facts = [json.dumps([{**row.facts(), "network": "", "shape": ""}, of]) for row, of in zip(rows, added, strict=True)]
    assert len(set(facts)) == 1


def test_only_a_row_with_neighbours_has_them_in_its_facts(tmp_path: Path) -> None:
    """Runs of rows without neighbours stay valid; a run with them is another one."""
    rows = {"plain": {"network": "hinet"}, "more": {"network": "hinet", "neighbours": True}}
    plain, more = read_rows("here", ["all"], TRAIN, write_table(tmp_path, {}, rows))
    assert "neighbours" not in plain.facts()
    assert more.facts() == {**plain.facts(), "neighbours": True}


def test_a_row_learns_auxiliary_tasks_where_the_protocol_has_some(tmp_path: Path) -> None:
    """Its facts name them; under a protocol without any it equals the row without."""
    rows = {"plain": {"network": "hinet"}, "more": {"network": "hinet", "auxiliary": True}}
    table = write_table(tmp_path, {"here": {"auxiliary": ["above_1"]}}, rows)
    plain, more = read_rows("here", ["all"], TRAIN, table)
    assert "auxiliary" not in plain.facts()
    assert more.facts() == {**plain.facts(), "auxiliary": ["above_1"]}
    elsewhere, same = read_rows("there", ["all"], TRAIN, table)
    assert same.facts() == elsewhere.facts()
