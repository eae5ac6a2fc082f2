"""Stage: Great Expectations on the joined training set; the gate before training.

No accepted event is lost, doubled or made up, every column has its declared type, a split by time does not overlap,
the features are as fresh as the impressions, and few impressions lack the features of a view.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import great_expectations.expectations as gxe
import pyarrow as pa
from great_expectations.data_context import AbstractDataContext

from common import params, stage
from common.params import Inspect
from features.engine.arrow_types import TYPES
from features.quality import gate, partitions
from features.quality.expectations import Rule, expect
from features.quality.gate import SPLITS, Border, Facts, Suite, as_wanted, none_at_all
from features.quality.results import quiet_context
from features.schema import EVENT_TIMESTAMP, Schema, View, read_schema, read_views

ANOTHER_TYPE = "column of another type"
BORDER = Border(
    title="Training set",
    remedy="Run `dvc repro --force join` again; if it comes back, look at features/join.py and at what it reads.",
)


def inspect_training(
    *, schema: Path, validated: Path, features: Path, training: Path, report: Path, docs: Path
) -> None:
    """Check train.parquet, valid.parquet and test.parquet under `training` against what they were made from.

    Writes the report and Data Docs in either case; raises ValidationError if a critical rule is broken.
    """
    declared, settings = read_schema(schema), params.load()
    suites = check_training(
        declared,
        read_views(features / "views.json"),
        settings.inspect,
        validated=validated,
        features=features,
        training=training,
        by_time=settings.join.split == "time",
    )
    gate.conclude(BORDER, suites, name=declared.name, report=report, docs=docs)


def check_training(
    schema: Schema,
    views: tuple[View, ...],
    settings: Inspect,
    *,
    validated: Path,
    features: Path,
    training: Path,
    by_time: bool,
) -> list[Suite]:
    """A suite per split, and one on all three together, which needs columns that are as declared."""
    context = quiet_context()
    with duckdb.connect(config={"memory_limit": "2GB", "threads": stage.threads()}) as connection:
        suites = [
            _check_split(context, connection, schema, views, training / f"{name}.parquet", settings) for name in SPLITS
        ]
        if any(fault.rule.name == ANOTHER_TYPE for suite in suites for fault in suite.faults):
            return suites
        _open(connection, schema, validated, training)
        facts = [
            _events(connection, schema),
            *(_order(connection) for _ in range(by_time)),
            _freshness(connection, views, features, settings),
        ]
    return [
        *suites,
        Suite(name="together", rows=sum(s.rows for s in suites), outcomes=gate.judge(context, *facts)),
    ]


def _check_split(
    context: AbstractDataContext,
    connection: duckdb.DuckDBPyConnection,
    schema: Schema,
    views: tuple[View, ...],
    path: Path,
    settings: Inspect,
) -> Suite:
    """Columns and types of one file; where they are as declared, its rows and the features that they lack."""
    rows = partitions.count([path] if path.is_file() else [])
    outcomes = gate.judge(context, _columns(schema, views, path))
    if all(outcome.success for outcome in outcomes):
        outcomes.append(gate.judge_count(context, _has_rows(path.stem), rows))
        outcomes += gate.judge(context, _missing(connection, views, path, settings))
    return Suite(name=path.stem, rows=rows, outcomes=outcomes)


def _columns(schema: Schema, views: tuple[View, ...], path: Path) -> Facts:
    """The type of every column that is there or is to be there."""
    declared = (*schema.events, *(column for view in views for column in view.columns))
    wanted = {column.name: partitions.type_name(TYPES[column.dtype]) for column in declared}
    found = partitions.structure(path)
    names = list(wanted | found)
    table = pa.table(
        {
            "column": names,
            "type": [found.get(name, "absent") for name in names],
            "wanted type": [wanted.get(name, "not declared") for name in names],
        }
    )
    rule = as_wanted(ANOTHER_TYPE, "type", "Every column is there with its declared type, and no other")
    return Facts(key="column", rows=table, rules=(rule,))


def _has_rows(split: str) -> Rule:
    kind = gxe.ExpectTableRowCountToBeBetween
    return expect(kind, "table", "no rows", [], f"{split} has at least one row", min_value=1)


def _missing(connection: duckdb.DuckDBPyConnection, views: tuple[View, ...], path: Path, settings: Inspect) -> Facts:
    """Share of the impressions that found no row of a view: every column of it is null."""
    absent = (" and ".join(f'"{column.name}" is null' for column in view.columns) for view in views)
    shares = ", ".join(f"round(avg(({test})::int), 4)" for test in absent)
    found = _one(connection, f"select {shares} from read_parquet($path)", path=str(path))
    limit = settings.missing_view_share
    rule = expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "view missing too often",
        ["share without a row"],
        f"At most {limit:.0%} of the impressions have no row of a view",
        severity="warning",
        column="share without a row",
        max_value=limit,
    )
    rows = pa.table({"view": [view.name for view in views], "share without a row": pa.array(found, pa.float64())})
    return Facts(key="view", rows=rows, rules=(rule,))


def _open(connection: duckdb.DuckDBPyConnection, schema: Schema, validated: Path, training: Path) -> None:
    """Views `accepted` (id) and `joined` (id, moment, split: its place)."""
    events = (validated / "events" / "*" / "*.parquet").as_posix()
    connection.execute(
        f"create view accepted as select \"{schema.event_id}\" as id from read_parquet('{events}', "
        "hive_partitioning = false)"
    )
    parts = (
        f'select "{schema.event_id}" as id, "{schema.timestamp}" as moment, {place} as split '
        f"from read_parquet('{(training / f'{name}.parquet').as_posix()}')"
        for place, name in enumerate(SPLITS)
    )
    connection.execute(f"create view joined as {' union all '.join(parts)}")


def _events(connection: duckdb.DuckDBPyConnection, schema: Schema) -> Facts:
    """The events of the three files against the accepted ones."""
    (accepted,) = _one(connection, "select count(*) from accepted")
    (rows,) = _one(connection, "select count(*) from joined")
    facts: dict[str, Any] = {"files": "train, valid and test", "rows": rows, "wanted rows": accepted}
    for name, text in (
        ("lost", "select id from accepted anti join joined using (id)"),
        ("foreign", "select id from joined anti join accepted using (id)"),
        ("repeated", "select id from joined group by id having count(*) > 1"),
    ):
        first = f"min(id, {gate.SHOWN})"
        count, ids = _one(connection, f"select count(*), {first} from ({text})")
        facts |= {f"{name} events": count, f"first {name}": gate.shown(ids or ())}
    together = "Train, valid and test have together as many rows as there are accepted events"
    rules = (
        as_wanted("rows lost or added", "rows", together),
        *(_no_event(name, schema.event_id) for name in ("lost", "foreign", "repeated")),
    )
    return Facts(key="files", rows=pa.Table.from_pylist([facts]), rules=rules)


def _no_event(fault: str, key: str) -> Rule:
    sentence = {
        "lost": f"Every {key} of the accepted events is in one of the files",
        "foreign": f"Every {key} of the files is that of an accepted event",
        "repeated": f"No {key} occurs twice, in one file or in two",
    }[fault]
    column = f"{fault} events"
    return none_at_all(column, [f"first {fault}"], sentence)


def _order(connection: duckdb.DuckDBPyConnection) -> Facts:
    """First and last moment of each split of a split by time."""
    spans = dict(_spans(connection))
    first, last = ([spans.get(place, (None, None))[end] for place in range(len(SPLITS))] for end in (0, 1))
    moments = {"first": first, "last": last, "last of the split before": [None, *last[:-1]]}
    types = {name: pa.array(values, pa.timestamp("us")) for name, values in moments.items()}
    rule = expect(
        gxe.ExpectColumnPairValuesAToBeGreaterThanB,
        "row",
        "splits overlap",
        ["first", "last of the split before"],
        "Each split begins after the last impression of the one before it",
        column_A="first",
        column_B="last of the split before",
        ignore_row_if="either_value_is_missing",
    )
    return Facts(key="split", rows=pa.table({"split": list(SPLITS), **types}), rules=(rule,))


def _spans(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, tuple[Any, Any]]]:
    for place, first, last in connection.execute(
        "select split, min(moment), max(moment) from joined group by split"
    ).fetchall():
        yield place, (first, last)


def _freshness(
    connection: duckdb.DuckDBPyConnection, views: tuple[View, ...], features: Path, settings: Inspect
) -> Facts:
    """The newest snapshot of each view and the days from it to the newest impression (below 0: it is the newer one)."""
    (impression,) = _one(connection, "select max(moment) from joined")
    facts = []
    for view in views:
        text = f"select count(*), max({EVENT_TIMESTAMP}) from read_parquet($path)"
        snapshots, newest = _one(connection, text, path=str(features / f"{view.name}.parquet"))
        age = round((impression - newest).total_seconds() / 86_400, 3) if impression and newest else None
        facts.append(
            {
                "view": view.name,
                "snapshots": snapshots,
                "newest snapshot": newest,
                "newest impression": impression,
                "days behind": age,
            }
        )
    types = pa.schema(
        [
            ("view", pa.string()),
            ("snapshots", pa.int64()),
            ("newest snapshot", pa.timestamp("us")),
            ("newest impression", pa.timestamp("us")),
            ("days behind", pa.float64()),
        ]
    )
    return Facts(key="view", rows=pa.Table.from_pylist(facts, types), rules=tuple(_fresh(settings.stale_days)))


def _fresh(days: float) -> Iterator[Rule]:
    shown = ["days behind", "newest snapshot", "newest impression"]
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "view without rows",
        ["snapshots"],
        "Every view has at least one snapshot",
        column="snapshots",
        min_value=1,
    )
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "stale view",
        shown,
        f"The newest snapshot of a view is at most {days:g} days older than the newest impression",
        column="days behind",
        max_value=days,
    )
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "view ahead of its time",
        shown,
        f"The newest snapshot of a view is at most {days:g} days newer than the newest impression",
        severity="warning",
        column="days behind",
        min_value=-days,
    )


def _one(connection: duckdb.DuckDBPyConnection, text: str, **values: Any) -> tuple[Any, ...]:
    return connection.execute(text, values or None).fetchone() or ()


if __name__ == "__main__":
    stage.run(inspect_training)
