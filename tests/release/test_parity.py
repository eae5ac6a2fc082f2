"""The training/serving parity: features, encoder and logits of the service are those of training."""

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.special

from features.encoding.tensors import open_tensors, write_tensors
from features.materialize import materialize
from features.schema import read_views
from features.store.definitions import SERVICE, open_store
from features.store.offline_store import newest_timestamp
from features.store.point_in_time import join_features
from models.evaluation.predict import predict
from models.model_folder import Model, read_model
from tests.support import tiny_project, world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with its features in the offline and the online store."""
    folder = world.write_features(tmp_path_factory.mktemp("stored"), world.tables(rows=600))
    materialize(schema=folder / "schema.json", features=folder / "features", online=folder / "online.db")
    return folder


def test_online_features_equal_offline_features_as_of_the_same_timestamp(stored: Path) -> None:
    """For every user x scenario x item, the online store has what the join returns as of the store's timestamp."""
    views = read_views(stored / "features" / "views.json")
    store = open_store(
        SCHEMA, views, features=stored / "features", online=stored / "online.db", registry=stored / "registry.db"
    )
    pairs = every_pair(users=14, items=11)
    online = store.get_online_features(store.get_feature_service(SERVICE), entity_rows=pairs.to_dict("records"))
    offline = join_features(store, SCHEMA, views, impressions(pairs, newest_timestamp(views, stored / "features")))
    values, names = online.to_dict(), [column.name for view in views for column in view.columns]
    for name in names:
        assert values[name] == offline[name].to_pylist(), name
    assert any(value is None for value in values["price"]), "items 9 and 10 are unknown: their features must be null"


def every_pair(*, users: int, items: int) -> pd.DataFrame:
    """Every user x item x scenario; the tiny world has 12 users and 9 items, the rest are unknown."""
    index = pd.MultiIndex.from_product([range(users), range(items), SCHEMA.scenarios])
    return index.to_frame(index=False).set_axis(["user_id", "item_id", "scenario"], axis=1)


def impressions(pairs: pd.DataFrame, timestamp: datetime) -> pa.Table:
    """One impression per row of `pairs` at `timestamp`."""
    frame = pairs.assign(event_id=range(len(pairs)), timestamp=timestamp.replace(tzinfo=None), hour=0, click=0, order=0)
    return pa.Table.from_pandas(frame, preserve_index=False)


def test_the_served_encoder_is_the_trained_one(project: Path) -> None:
    """The encoder in the model folder is that of `encode`, byte for byte, and turns the test rows into its tensors."""
    trained, served = project / "artifacts" / "encoder.parquet", project / tiny_project.MODEL / "encoder.parquet"
    assert served.read_bytes() == trained.read_bytes()
    batch = read_model(project / tiny_project.MODEL).encoder.encode(
        pq.read_table(project / "data/training/test.parquet")
    )
    tensors = open_tensors(project / "data/tensors/test")
    for name, values in vars(batch).items():
        np.testing.assert_array_equal(values, getattr(tensors, name), err_msg=name)


def test_logits_over_http_are_logits_of_evaluate(project: Path, client: Any) -> None:
    """For every user x scenario x item, the service and the batch path agree as of the store's timestamp.

    The batch path: point-in-time join -> tensors on disk -> `predict`, as in evaluate. The service: ids over HTTP ->
    online store -> probabilities as JSON.
    """
    pairs = every_pair(users=14, items=11)
    model, views = read_model(project / tiny_project.MODEL), read_views(project / "data/features/views.json")
    expected = _batch_logits(project, model, impressions(pairs, newest_timestamp(views, project / "data/features")))
    served = np.concatenate([_logits(client, *key, group) for key, group in pairs.groupby(["user_id", "scenario"])])
    order = np.concatenate([group.index for _, group in pairs.groupby(["user_id", "scenario"])])
    np.testing.assert_allclose(served, expected[order], rtol=1e-5, atol=1e-5)
    assert np.ptp(expected) > 1, "a network with one logit for all rows proves nothing"


def _batch_logits(project: Path, model: Model, rows: pa.Table) -> np.ndarray:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = open_store(
            SCHEMA, model.views, features=project / "data/features", online=folder / "o.db", registry=folder / "r.db"
        )
        pq.write_table(join_features(store, SCHEMA, model.views, rows), folder / "rows.parquet")
        write_tensors(model.encoder, SCHEMA, folder / "rows.parquet", folder / "tensors")
        return predict(model.network, open_tensors(folder / "tensors"), "hinet")


def _logits(client: Any, user: int, scenario: str, group: pd.DataFrame) -> np.ndarray:
    """Logits [N, T] of the probabilities that the service returns for the items of `group`, in their order."""
    body = {"user_id": int(user), "scenario": scenario, "candidates": group["item_id"].tolist(), "context": {"hour": 0}}
    ranking = client.post("/rank", json=body).json()
    by_item = pd.DataFrame(ranking["probabilities"], index=ranking["item_ids"])[list(SCHEMA.task_names)]
    return scipy.special.logit(by_item.loc[group["item_id"]].to_numpy())
