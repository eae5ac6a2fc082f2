"""The tiny world under other names: of its columns, tasks and scenarios; and its way through the stages, in process."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from common.params import Aggregate
from features.datasets.log import Log
from features.datasets.writer import write_entities, write_events
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import fit_reference
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.engine.daily_statistics import open_events, write_view
from features.engine.engines import DuckDBEngine
from features.engine.feature_views import check_names, feature_views
from features.schema import EVENT_TIMESTAMP, Column, Schema, View, inputs
from tests.support import world

SETTINGS = Aggregate(windows=[1], prior_impressions=4, recent_items=3, delay_minutes=60)
WORDS = re.findall(  # of SQL, of the stages, of Feast and of the statements between them, and other odd ones
    r"\S+",
    """
    order select from where group by user table rows row day date time timestamp value values bin raw events users
    items snapshots overall span daily days training position change impressions known_at first_day last_day day_number
    newest until reached entered marked counted past digest status online candidates classified rn entity_row_id id
    event_timestamp created created_timestamp event_expire_timestamp day_y x_y reasons p_click p_x accepted joined split
    occurred_at scenario item query self class None nan inf null true index level_0 _day _date _scenario _period copies
    _position _rows 101 205 109_14 1e5 0x10 -1 3.5 age-band a.b .x [x] a[0] a:b user:age v@1 x__y a/b a\\b $x {x} it's
    "hi" `b` %s %(x)s -- <b>&amp; ключ 名前 é e\u0301 🙂 ﬁ İ
    """,
)
TEXTS = (
    "event time",
    " ",
    "  x ",
    "\u00a0",
    "a;drop table x",
    "/* x */",
    "copies of user_id",
    "day of the file",
    "x" * 300,
)
_LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
PLAIN = world.schema()
KEPT = {  # the pipeline's own: hypothesis draws constants of the code too
    *("_row", "request_id", "served_at", "place", "model_tag", "ab_arm", "score", "seconds"),
    *("shadow_score", "shadow_tag", "shadow_seconds", *(f"score_{task.name}" for task in PLAIN.tasks)),
    *(column.name for columns in PLAIN.tables.values() for column in columns),
    *(column.name for view in feature_views(PLAIN, SETTINGS) for column in view.columns),
}
TEXT = st.sampled_from(TEXTS) | st.text(_LETTERS, min_size=1, max_size=12).filter(
    lambda name: not name.startswith("__") and name.casefold() not in KEPT
)


@dataclass(frozen=True)
class Names:
    """Another name for each column (the label of a task too), and for each scenario, by the plain one."""

    columns: Mapping[str, str]
    scenarios: Mapping[str, str]

    def schema(self) -> Schema:
        """The tiny schema under these names; raises SchemaError where one is refused."""
        tables = {name: tuple(map(self._column, columns)) for name, columns in PLAIN.tables.items()}
        tasks = tuple(
            dataclasses.replace(t, name=self.columns[t.name], requires=t.requires and self.columns[t.requires])
            for t in PLAIN.tasks
        )
        scenarios = tuple(self.scenarios[name] for name in PLAIN.scenarios)
        schema = Schema(name="tiny", scenarios=scenarios, tasks=tasks, **tables)
        check_names(schema)
        return schema

    def tables(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """The tables of the tiny world under these names."""
        scenario = {"scenario": tables["events"]["scenario"].map(dict(self.scenarios))}
        renamed = {**tables, "events": tables["events"].assign(**scenario)}
        return {name: frame.rename(columns=dict(self.columns)) for name, frame in renamed.items()}

    def _column(self, column: Column) -> Column:
        renamed = dataclasses.replace(column, name=self.columns[column.name])
        if column.name != PLAIN.scenario:
            return renamed
        return dataclasses.replace(renamed, values=tuple(self.scenarios[name] for name in PLAIN.scenarios))


def names() -> st.SearchStrategy[Names]:
    """Names that Parquet can store; scenarios keep their alphabetical order, so that ids and rows keep theirs."""
    plain = sorted({column.name for columns in PLAIN.tables.values() for column in columns})
    name = st.sampled_from(WORDS) | TEXT
    columns = st.lists(name, min_size=len(plain), max_size=len(plain), unique_by=str.casefold)
    scenarios = st.lists(TEXT, min_size=3, max_size=3, unique=True).map(sorted)
    return st.builds(
        lambda drawn, held: Names(
            dict(zip(plain, drawn, strict=True)), dict(zip(sorted(PLAIN.scenarios), held, strict=True))
        ),
        columns,
        scenarios,
    )


PLAIN_NAMES = Names(
    {column.name: column.name for columns in PLAIN.tables.values() for column in columns},
    {scenario: scenario for scenario in PLAIN.scenarios},
)


def other_names(**columns: str) -> Names:
    """The plain names with changes of columns, and scenarios with names of their own."""
    return Names({**PLAIN_NAMES.columns, **columns}, {"channel": "a/b", "feed": "it's", "search": "x*"})


def run_stages(folder: Path, given: Names, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Ingest, aggregate, a join, encode and summarize under `folder`; returns all values, without names.

    Column by column in declared order, so that the results under two sets of names are equal or one has other values.
    """
    schema, renamed = given.schema(), given.tables(tables)
    events = renamed["events"].drop(columns=schema.event_id)
    log = Log(schema=schema, users=renamed["users"], items=renamed["items"], chunks=lambda: iter([events]))
    write_events(log, None, folder / "ingested", folder / "truth.parquet")
    write_entities(log, folder / "ingested")
    views = feature_views(schema, SETTINGS)
    with connect() as connection:
        engine = DuckDBEngine(connection)
        open_events(engine, schema, folder / "ingested")
        for view in views:
            write_view(engine, schema, view, SETTINGS, folder / f"{view.name}.parquet")
    training = folder / "training.parquet"
    pq.write_table(join(schema, views, folder), training)
    encoder = fit_encoder(schema, inputs(schema, views), training, 2)
    encoder.write(folder / "encoder.parquet")
    batch = encoder.encode(pq.read_table(training))
    histograms = fit_reference(training, schema, encoder)
    plain = {new: old for old, new in given.scenarios.items()}
    return {
        **{view.name: values(pq.read_table(folder / f"{view.name}.parquet"), plain) for view in views},
        "training": values(pq.read_table(training), plain),
        **{name: np.nan_to_num(array, nan=-9).tolist() for name, array in vars(batch).items()},
        "histograms": [counts.tolist() for counts in histograms.counts.values()],
        "labels": [counts.tolist() for counts in histograms.labels.values()],
        "effective": list(histograms.effective.values()),
    }


def join(schema: Schema, views: tuple[View, ...], folder: Path) -> pa.Table:
    """The events with the newest row of each view as of their timestamp, as Feast joins them."""
    stamp = sql.column(schema.timestamp)
    joined = sql.parquet(folder / "ingested" / "events", "*/*.parquet") + " as __e"
    for view in views:
        same = " and ".join(f"__e.{key} = __{view.name}.{key}" for key in map(sql.column, view.keys))
        source = sql.parquet(folder / f"{view.name}.parquet")
        joined += (
            f" asof left join {source} as __{view.name} on {same} and __e.{stamp} >= __{view.name}.{EVENT_TIMESTAMP}"
        )
    columns = [f"__e.{sql.column(column.name)}" for column in schema.events]
    columns += [f"__{view.name}.{sql.column(column.name)}" for view in views for column in view.columns]
    types = arrow_schema((*schema.events, *(column for view in views for column in view.columns)))
    with connect() as connection:
        query = f"select {', '.join(columns)} from {joined} order by __e.{sql.column(schema.event_id)}"
        rows = connection.execute(query).to_arrow_table()
    return pa.Table.from_arrays(rows.columns, names=types.names).cast(types)


def values(table: pa.Table, scenarios: Mapping[str, str]) -> list[list[Any]]:
    """The values of each column, scenarios under their plain names, NaN as None."""
    return [[plain_value(value, scenarios) for value in column.to_pylist()] for column in table.columns]


def plain_value(value: Any, scenarios: Mapping[str, str]) -> Any:
    """A value, or the plain name of a scenario."""
    if isinstance(value, float) and np.isnan(value):
        return None
    return scenarios.get(value, value) if isinstance(value, str) else value
