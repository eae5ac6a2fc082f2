"""The encoder with extreme values: each id is its own, and a request is encoded like the row of a table."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.request_encoder import RequestEncoder
from features.engine.arrow_types import arrow_schema
from features.schema import Column, DType, Kind, Role
from tests.support import extreme_values, world
from tests.support.examples import examples

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:Generating overly large repr")]

KINDS = {
    DType.INT64: (Kind.CATEGORICAL, Kind.NUMERIC),
    DType.STRING: (Kind.CATEGORICAL,),
    DType.FLOAT32: (Kind.NUMERIC,),
    DType.INT64_LIST: (Kind.SEQUENCE, Kind.MULTI_VALUED),
    DType.STRING_LIST: (Kind.SEQUENCE, Kind.MULTI_VALUED),
}
COLUMNS = tuple(
    Column(
        name=f"{dtype}_{kind}{'_log' * log}",
        role=Role.FEATURE,
        dtype=dtype,
        kind=kind,
        nullable=True,
        length=3 if dtype in (DType.INT64_LIST, DType.STRING_LIST) else None,
        log=log,
    )
    for dtype, kinds in KINDS.items()
    for kind in kinds
    for log in ((False, True) if kind is Kind.NUMERIC else (False,))
)
SCENARIO = world.schema().by_role(Role.SCENARIO)
ROW = st.fixed_dictionaries({c.name: st.none() | extreme_values.of(c.dtype) for c in COLUMNS})


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, min_size=1, max_size=6))
def test_every_value_is_encoded_exactly(tmp_path, rows):
    """Two values have one id only if they are equal, every number is finite, and requests and tables agree in bytes."""
    table = pa.Table.from_pylist([{**row, "scenario": "feed"} for row in rows], arrow_schema((*COLUMNS, *SCENARIO)))
    pq.write_table(table, tmp_path / "train.parquet")
    fitted = fit_encoder(world.schema(), COLUMNS, tmp_path / "train.parquet", 1)
    fitted.write(tmp_path / "encoder.parquet")
    encoder = Encoder.read(tmp_path / "encoder.parquet")
    assert encoder == fitted
    for column in COLUMNS:
        if column.kind is not Kind.NUMERIC:
            values = [row[column.name] for row in rows if row[column.name] is not None]
            values = [value for kept in values for value in kept] if column.is_list else values
            assert set(encoder.vocabularies[column.name]) == set(values)
            assert len(encoder.vocabularies[column.name]) == len(set(values))
    batch, requests = encoder.encode(table), RequestEncoder(encoder, frozenset(column.name for column in COLUMNS))
    assert abs(batch.numeric).max() <= 8
    for index, row in enumerate(rows):
        encoded = requests.encode(row, 0)
        for part in ("categorical", "bags", "numeric"):
            assert getattr(encoded, part)[0].tobytes() == getattr(batch, part)[index].tobytes()
