"""The examples of CONTRIBUTING.md are complete and run."""

import inspect
import json
import re
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from common.errors import SourceError
from common.paths import ROOT
from features.schema import Role, to_json

pytestmark = pytest.mark.integration
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MOVIELENS = re.findall(
    r"```yaml\n(name: movielens\n.*?)```", (ROOT / "docs/how-to/own-data.md").read_text(), re.DOTALL
)[0]
DATA_SET, NETWORK, STAGE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def run(source: str, name: str) -> Any:
    """The module that an example is."""
    module = ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
    return module


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    """The three files that the example reads, named as params.dataset."""
    events = {
        "timestamp": ["2026-01-06 10:00", "2026-01-05 10:00", "2026-01-05 11:00"],
        "user_id": [1, 2, 1],
        "item_id": [3, 4, 5],
        "scenario": ["home", "search", "basket"],
        "click": [1, 0, 1],
        "order": [1, 0, 0],
    }
    pd.DataFrame(events).to_csv(tmp_path / "events.csv", index=False)
    pd.DataFrame({"user_id": [1, 2], "city": ["Oslo", None]}).to_csv(tmp_path / "users.csv", index=False)
    pd.DataFrame({"item_id": [3, 4, 5], "price": [1.5, 2.0, 3.0]}).to_csv(tmp_path / "items.csv", index=False)
    return SimpleNamespace(name="shop", path=str(tmp_path), until=None)


def test_the_data_set_is_read_as_it_is_declared(shop: Any) -> None:
    """Its chunks fit the declared types; a row of another scenario is left out and counted."""
    from features.datasets.typed_columns import typed_table

    log = run(DATA_SET, "shop").read(shop)
    columns = tuple(column for column in log.schema.events if column.role is not Role.EVENT_ID)
    (chunk,) = log.chunks()
    assert typed_table(chunk, columns, "events").to_pydict()["scenario"] == ["home", "search"]
    assert typed_table(log.users, log.schema.users, "users").to_pydict()["city"] == ["Oslo", None]
    assert typed_table(log.items, log.schema.items, "items").num_rows == 3
    assert (log.counts.rows_read, dict(log.counts.left_out)) == (3, {"of another scenario": 1})


def test_the_data_set_says_which_file_is_missing(shop: Any) -> None:
    """The error names the folder and the file."""
    (Path(shop.path) / "items.csv").unlink()
    with pytest.raises(SourceError, match=r"\['items.csv'\] are missing"):
        run(DATA_SET, "shop").read(shop)


def test_the_network_returns_a_logit_per_task_and_all_of_it_learns() -> None:
    """Logits [B, T]; every parameter gets a gradient."""
    import torch

    from models.networks.data_spec import DataSpec

    data = DataSpec(
        table_rows=(100,),
        categorical_tables=(0,),
        bag_tables=(),
        bag_lengths=(),
        numeric=1,
        scenarios=4,
        task_outputs=(1, 1),
    )
    example = run(NETWORK, "network")
    network = example.TowerPerTask(data, example.TowerPerTaskConfig(embedding_width=8, units=(16, 8)))
    ids, bags = torch.arange(10).int()[:, None], torch.zeros(10, 0).int()
    logits = network(ids, bags, torch.randn(10, 1), torch.zeros(10).int())
    assert logits.shape == (10, 2)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_the_stage_writes_what_it_says(shop: Any, tmp_path: Path) -> None:
    """Impressions by scenario, as JSON."""
    schema = tmp_path / "schema.json"
    schema.write_text(to_json(run(DATA_SET, "shop").declare(shop)))
    (tmp_path / "events").mkdir()
    pq.write_table(pa.table({"scenario": ["home", "home", "search"]}), tmp_path / "events" / "part-0.parquet")
    run(STAGE, "count").count(schema=schema, validated=tmp_path, out=tmp_path / "count.json")
    assert json.loads((tmp_path / "count.json").read_text()) == {"home": 2, "search": 1}


def test_the_stage_in_dvc_yaml_gives_the_options_of_its_function() -> None:
    """Each option of the example's command is a keyword of the example's function, and its code exists."""
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    stage = YAML(typ="safe").load(text)["count"]
    options = set(re.findall(r"--(\w+)", stage["cmd"]))
    assert options == set(inspect.signature(run(STAGE, "count").count).parameters)
    code = [path for path in stage["deps"] if not path.startswith("data/") and path != "features/count.py"]
    assert all((ROOT / path).exists() for path in code), code


def test_movielens_declared_is_movielens_read(tmp_path: Path) -> None:
    """The declaration in the guide gives the rows, users and items that the reader of MovieLens-1M gives."""
    from features.datasets import declared, movielens
    from tests.support import movielens_archive, small_log

    movielens_archive.write(tmp_path, movies=movielens_archive.MOVIES.replace(" :: ", ": "))
    with zipfile.ZipFile(tmp_path / "ml-1m.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "ml-1m" / "dataset.yaml").write_text(MOVIELENS)
    read = movielens.read(movielens_archive.dataset(tmp_path))
    log = declared.read(small_log.dataset(tmp_path / "ml-1m"))
    for name, keys in (("users", ["user_id"]), ("items", ["movie_id"])):
        frames = (getattr(one, name).sort_values(keys, ignore_index=True) for one in (log, read))
        pd.testing.assert_frame_equal(*frames, check_dtype=False)
    events = [pd.concat(one.chunks())[list(pd.concat(log.chunks()))] for one in (log, read)]
    frames = (frame.sort_values(["user_id", "timestamp"], ignore_index=True) for frame in events)
    pd.testing.assert_frame_equal(*frames, check_dtype=False)
