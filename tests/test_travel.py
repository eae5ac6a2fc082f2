"""A log with the four tasks When, How, Where, Via, on its whole way: multi-class tasks and choices among candidates."""

from pathlib import Path
from typing import Any

import gate
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import travel
import world

from errors import SchemaError, ValidationError
from features.aggregate import aggregate
from features.arrow import arrow_schema
from features.encode import Encoder, encode, open_tensors, write_tensors
from features.join import join
from features.schema import read_views, to_json
from features.validate import validate

SCHEMA = travel.schema()
SPLITS = ("train", "valid", "test")


def as_arrow(frames: dict[str, pd.DataFrame]) -> dict[str, pa.Table]:
    """The tables as the schema stores them."""
    return {
        name: pa.Table.from_pandas(frame, arrow_schema(SCHEMA.tables[name]), preserve_index=False)
        for name, frame in frames.items()
    }


def run_gate() -> None:
    """The stage validate in this folder."""
    validate(
        schema=Path("schema.json"), ingested=Path("ingested"), out=Path("validated"), quarantine=Path("quarantine"),
        report=Path("validation.json"), docs=Path("docs"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage after stage on 540 trips, from what ingest writes to tensors, split at random."""
    folder = tmp_path_factory.mktemp("travel")
    frames, _ = travel.tables(trips=540)
    gate.write(folder / "ingested", as_arrow(frames))
    (folder / "schema.json").write_text(to_json(SCHEMA))
    world.write_params(folder, join__split="random", encode__minimum_count=1)
    schema, features = Path("schema.json"), Path("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_gate()
        aggregate(schema=schema, validated=Path("validated"), out=features)
        join(schema=schema, validated=Path("validated"), features=features, out=Path("training"))
        encode(schema=schema, views=features / "views.json", training=Path("training"), encoder=Path("encoder.json"),
               out=Path("tensors"))  # fmt: skip
    return folder


def test_the_gate_lets_the_log_pass_and_stops_a_class_that_is_not_declared(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of a valid log goes on; a stranger among the classes is a broken row."""
    assert sum(pq.read_metadata(path).num_rows for path in built.glob("validated/events/*/*.parquet")) == 540 * 9
    frames, _ = travel.tables(trips=30)
    frames["events"].loc[frames["events"]["how"].notna().idxmax(), "how"] = 50
    gate.write(tmp_path / "ingested", as_arrow(frames))
    (tmp_path / "schema.json").write_text(to_json(SCHEMA))
    world.write_params(tmp_path, validate__tolerance=0.0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match="how outside its values: 1 rows"):
        run_gate()


def test_statistics_are_of_what_has_a_rate(built: Path) -> None:
    """A rate for each choice, none for classes; recent places are those chosen as destination."""
    names = [column.name for view in read_views(built / "features" / "views.json") for column in view.columns]
    assert {name.split("_rate_")[0] for name in names if "_rate_" in name} == {
        f"{prefix}_{task}" for prefix in ("user", "item", "user_in_scenario") for task in ("where", "via")
    }
    (recent,) = read_views(built / "features" / "views.json")[0].columns[-1:]
    assert recent.desc == "items of the newest impressions with where = 1, newest last"


def test_the_candidates_of_a_trip_stay_together(built: Path) -> None:
    """A split at random holds its shares of the trips, and no trip is torn."""
    trips = [set(pq.read_table(built / "training" / f"{split}.parquet")["trip"].to_pylist()) for split in SPLITS]
    assert sum(map(len, trips)) == len(set.union(*trips)) == 540
    shares = world.section("join")
    assert len(trips[2]) / 540 == pytest.approx(shares["test_share"], abs=0.05)


def test_labels_are_places_of_classes_and_sets_are_codes(built: Path) -> None:
    """Against the rows of the joined log, one by one; NaN where not asked."""
    for split in SPLITS:
        rows, tensors = (pq.read_table(built / "training" / f"{split}.parquet").to_pylist(),
                         open_tensors(built / "tensors" / split))  # fmt: skip
        expected = [[place_of(row["when"], travel.WHEN), place_of(row["how"], travel.HOW), row["where"], row["via"]]
                    for row in rows]  # fmt: skip
        np.testing.assert_array_equal(tensors.labels, np.array(expected, dtype=np.float32))
        pairs = {(row["trip"], code) for row, code in zip(rows, tensors.choice_set.tolist(), strict=True)}
        assert len(pairs) == len({trip for trip, _ in pairs}) == len({code for _, code in pairs})


def place_of(value: Any, classes: tuple[Any, ...]) -> int | None:
    """Where the value stands among the classes."""
    return None if value is None else classes.index(value)


def test_a_class_that_is_not_declared_cannot_be_encoded(tmp_path: Path) -> None:
    """The message names the task, the value and the classes."""
    events = as_arrow(travel.tables(trips=5)[0])["events"]
    strange = pa.array(["dusk"] + [None] * (len(events) - 1))
    events = events.set_column(events.column_names.index("when"), "when", strange)
    pq.write_table(events, tmp_path / "train.parquet")
    columns = tuple(c for c in SCHEMA.events if c.is_feature)
    encoder = Encoder.fit(SCHEMA, columns, tmp_path / "train.parquet", 1)
    with pytest.raises(SchemaError, match=r"labels of when are \['dusk'\], none of its classes"):
        write_tensors(encoder, SCHEMA, tmp_path / "train.parquet", tmp_path / "tensors")
