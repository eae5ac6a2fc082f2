"""Vectors: standardised by dimension over the training rows; a missing one is the mean, with a flag."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import SchemaError
from features.encoding.bins import Measure
from features.encoding.encoder import LIMIT, Encoder, Layout
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.schema import Column, DType, Kind, Role
from tests.support import world

pytestmark = pytest.mark.unit

SCHEMA = world.schema()
PRICE = Column(name="price", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC)
IMAGE = Column(name="image", role=Role.FEATURE, dtype=DType.FLOAT32_LIST, kind=Kind.VECTOR, length=3, nullable=True)
WORDS = Column(name="words", role=Role.FEATURE, dtype=DType.FLOAT32_LIST, kind=Kind.VECTOR, length=2)
VECTOR = pa.list_(pa.float32())
RANDOM = np.random.default_rng(0)
IMAGES = [None, *(RANDOM.normal(size=(99, 3)) * (1, 20, 0) + (5, 0, 7)).astype(np.float32).tolist()]
TRAIN = pa.table(
    {
        "timestamp": pa.array(np.arange(100) * 3_600_000_000 + 1_767_571_200_000_000, pa.timestamp("us")),
        "scenario": ["feed"] * 100,
        "click": pa.array([0, 1] * 50, pa.int8()),
        "order": pa.array([0] * 100, pa.int8()),
        "price": pa.array(np.arange(100), pa.float32()),
        "image": pa.array(IMAGES, VECTOR),
        "words": pa.array([[1.0, -1.0]] * 50 + [[3.0, -1.0]] * 50, VECTOR),
    }
)


def fit(tmp_path: Path) -> Encoder:
    """An encoder of two vectors and a number, fitted on TRAIN."""
    pq.write_table(TRAIN, tmp_path / "train.parquet")
    return fit_encoder(SCHEMA, (IMAGE, PRICE, WORDS), tmp_path / "train.parquet", 1)


def test_each_dimension_has_mean_0_and_deviation_1(tmp_path: Path) -> None:
    """After the numbers, in the order of the columns; a constant dimension is 0; the flag of a nullable one is last."""
    encoder = fit(tmp_path)
    numeric = encoder.encode(TRAIN).numeric
    known = np.array(IMAGES[1:], np.float64)[:, :2]
    assert encoder.layout == Layout((), (), (), (), numeric=7, scenarios=3, vectors=(4, 2))
    np.testing.assert_allclose(numeric[1:, 1:3], (known - known.mean(0)) / known.std(0), rtol=1e-5)
    assert not numeric[:, 3].any()
    assert numeric[:, 5].tolist() == [-1.0] * 50 + [1.0] * 50
    assert numeric[:, 4].tolist() == [1.0] + [0.0] * 99


def test_a_missing_vector_is_the_mean_with_its_flag_and_numbers_are_clipped(tmp_path: Path) -> None:
    """The mean is zeros; a number beyond 8 deviations is clipped, one that is not a number is the mean."""
    values = {"scenario": ["feed"] * 3, "price": pa.array([0.0] * 3, pa.float32())}
    images = [None, [5.0, 1e30, 7.0], [float("nan"), -float("inf"), 7.0]]
    vectors = {"image": pa.array(images, VECTOR), "words": pa.array([[2.0, -1.0]] * 3, VECTOR)}
    numeric = fit(tmp_path).encode(pa.table(values | vectors)).numeric
    assert numeric[0, 1:5].tolist() == [0, 0, 0, 1]
    assert (numeric[1, 2], numeric[2, 1], numeric[2, 2]) == (LIMIT, 0, -LIMIT)


def test_it_is_equal_after_json_and_a_data_set_without_vectors_has_no_such_key(tmp_path: Path) -> None:
    """The artefacts of who has no vector stay as they were."""
    encoder = fit(tmp_path)
    encoder.write(tmp_path / "encoder.parquet")
    assert Encoder.read(tmp_path / "encoder.parquet") == encoder
    plain = fit_encoder(SCHEMA, (PRICE,), tmp_path / "train.parquet", 1)
    plain.write(tmp_path / "plain.parquet")
    assert b"vectors" not in (tmp_path / "plain.parquet").read_bytes()
    assert "vectors" not in plain.layout.plain()


def test_another_length_is_refused(tmp_path: Path) -> None:
    """The gate has put such a row into quarantine; one from elsewhere is named."""
    rows = TRAIN.set_column(5, "image", pa.array([[1.0, 2.0]] * 100, VECTOR))
    with pytest.raises(SchemaError, match="column image: 100 vectors have not 3 numbers, found 2"):
        fit(tmp_path).encode(rows)


def test_the_reference_counts_norm_and_cosine(tmp_path: Path) -> None:
    """Against numpy: the range of the norms and of the cosines with the mean vector; a missing vector is missing."""
    reference = fit_reference(tmp_path / "train.parquet", SCHEMA, fit(tmp_path))
    bins = {one.name: one for one in reference.bins}
    assert list(bins) == ["image: norm", "image: cosine", "price", "words: norm", "words: cosine"]
    known, centroid = np.array(IMAGES[1:], np.float64), np.array(bins["image: norm"].centroid)
    norms = np.linalg.norm(known, axis=1)
    cosines = known @ centroid / norms / np.linalg.norm(centroid)
    np.testing.assert_allclose(centroid, known.mean(axis=0))
    for measure, values in ((Measure.NORM, norms), (Measure.COSINE, cosines)):
        edges = bins[f"image: {measure}"].edges
        np.testing.assert_allclose((edges[0], edges[-1]), (values.min(), values.max()))
        counts = reference.counts[f"image: {measure}"].sum(axis=(0, 1))
        assert (counts[0], counts.sum()) == (1, 100)


def test_a_window_with_odd_vectors_can_be_counted(tmp_path: Path) -> None:
    """Of another length, with a null, NaN: missing. Zeros have a norm and no direction."""
    encoder = fit(tmp_path)
    bins = fit_reference(tmp_path / "train.parquet", SCHEMA, encoder).bins
    odd = [[1.0, 2.0], [], None, [1.0, None, 2.0], [1.0, float("nan"), 2.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]
    rows = TRAIN.slice(0, 7).set_column(5, "image", pa.array(odd, VECTOR))
    pq.write_table(rows, tmp_path / "window.parquet")
    window = count_histograms(tmp_path / "window.parquet", SCHEMA, encoder, bins)
    missing = {name: int(counts[..., 0].sum()) for name, counts in window.counts.items()}
    assert (missing["image: norm"], missing["image: cosine"], missing["words: norm"]) == (5, 6, 0)
