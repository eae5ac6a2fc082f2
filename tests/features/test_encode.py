"""Stage encode: an encoder fitted on the training rows, and the tensors of every split."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from common.params import Encode
from features.encode import encode
from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.tensors import open_tensors
from features.join import join
from features.schema import SPLITS, Kind, inputs_from, read_views
from tests.support import world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world through aggregate, join and encode."""
    folder = world.write_features(tmp_path_factory.mktemp("encoded"), world.tables(rows=500))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        join(schema=Path("schema.json"), validated=Path("validated"), features=Path("features"), out=Path("training"))
        paths = {"schema": "schema.json", "views": "features/views.json", "training": "training"}
        encode(**{k: Path(v) for k, v in paths.items()}, encoder=Path("encoder.parquet"), out=Path("tensors"))  # type: ignore[arg-type]
    return folder


def test_the_tensors_of_the_stage_are_the_rows_encoded(encoded: Path) -> None:
    """For each split: as many rows as the Parquet file, equal to encoding it at once, with labels and ids."""
    encoder = Encoder.read(encoded / "encoder.parquet")
    for split in SPLITS:
        table = pq.read_table(encoded / "training" / f"{split}.parquet")
        tensors, expected = open_tensors(encoded / "tensors" / split), encoder.encode(table)
        for name in ("categorical", "bags", "numeric", "scenario"):
            np.testing.assert_array_equal(getattr(tensors, name), getattr(expected, name))
        assert tensors.labels[:, 0].tolist() == table["click"].to_pylist()
        assert tensors.event_id.tolist() == table["event_id"].to_pylist()
        users = pd.DataFrame({"user": table["user_id"].to_pylist(), "code": tensors.user}).drop_duplicates()
        assert len(users) == users["user"].nunique() == users["code"].nunique()
        assert np.isfinite(tensors.numeric).all()


def test_the_encoder_is_fitted_on_training_rows_only(encoded: Path) -> None:
    """The fitted vocabularies and scales are those of train.parquet; valid and test rows do not enter."""
    columns = inputs_from(
        SCHEMA, read_views(encoded / "features" / "views.json"), Encode(**world.section("encode")).sources
    )
    again = fit_encoder(SCHEMA, columns, encoded / "training" / "train.parquet", 3)
    assert again == Encoder.read(encoded / "encoder.parquet")


def test_tables_are_capped_and_hashed_by_params(encoded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """encode.maximum_values and encode.hash_buckets reach encoder and tensors; null and 0 leave a table as it is."""
    limits, buckets = {"item_id": 4, "user_id": None}, {"item_id": 2, "user_id": 0}
    world.write_params(tmp_path, encode__maximum_values=limits, encode__hash_buckets=buckets)
    monkeypatch.chdir(tmp_path)
    paths = {"schema": "schema.json", "views": "features/views.json", "training": "training"}
    encode(**{k: encoded / v for k, v in paths.items()}, encoder=Path("encoder.parquet"), out=Path("tensors"))  # type: ignore[arg-type]
    plain, encoder = Encoder.read(encoded / "encoder.parquet"), Encoder.read(tmp_path / "encoder.parquet")
    assert (encoder.buckets, encoder.capped, len(encoder.vocabularies["item_id"])) == ({"item_id": 2}, ("item_id",), 4)
    assert encoder.vocabularies["user_id"] == plain.vocabularies["user_id"]
    column = [c.name for c in encoder.columns if c.kind is Kind.CATEGORICAL].index("item_id")
    ids = open_tensors(tmp_path / "tensors" / "test").categorical[:, column]
    assert set(ids.tolist()) == {1, 2, 3, 4, 5, 6}
