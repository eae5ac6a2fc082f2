"""Vectors of a declared log: lists of numbers, text that is one, and what an expression makes one."""

import pyarrow as pa
import pytest

from common.errors import SourceError
from features.datasets import declared
from tests.support import small_log

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path):
    """A declared log."""
    return small_log.write(tmp_path)


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        ([[0.5, 1.5], [1.0, None], None], "image"),
        (["[0.5, 1.5]", "[1.0, null]", None], "image"),
        (["0.5 1.5", "1.0 ", None], "list_transform(string_split(image, ' '), x -> try_cast(x as float))"),
    ],
    ids=["lists", "text as JSON", "text with blanks"],
)
def test_vectors(path, values, expression):
    """A vector is read from a list of numbers, from text as JSON has it, and from whatever an expression makes one."""
    items = small_log.frames()["items"].assign(image=[values[index % 3] for index in range(40)])
    items.to_parquet(path.with_name("items.parquet"))
    image = f'image: {{kind: vector, length: 2, sql: "{expression}"}}'
    path.write_text(path.read_text().replace("price: numeric", f"{image}\n    price: numeric"))
    images = pa.array(declared.read(small_log.dataset(path)).items["image"][:3]).to_pylist()
    assert images == [[0.5, 1.5], [1.0, None], None]


def test_a_number_beyond_float32_is_refused(path):
    """It would be infinite, and the quality gate cannot know that the log has a finite one."""
    items = small_log.frames()["items"].assign(image=[[1e300, 1.0]] * 40)
    items.to_parquet(path.with_name("items.parquet"))
    path.write_text(path.read_text().replace("price: numeric", "image: vector length 2\n    price: numeric"))
    with pytest.raises(SourceError, match=r"items: .*out of range"):
        declared.read(small_log.dataset(path))
