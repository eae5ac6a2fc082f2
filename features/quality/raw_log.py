"""The quality gate of the raw log: events, users and items row by row; broken rows go to quarantine.

A row that breaks a critical row rule goes to quarantine with its reasons, and so does an event whose user or item went
there. The other rows are accepted, up to a tolerance. Beyond it, or where a critical rule about a whole table is
broken, the gate closes: nothing is accepted, and report and Data Docs give the reasons. The input is only read. Events
are checked in batches, so memory does not grow with the log.
"""

import dataclasses
import datetime
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from great_expectations.data_context import AbstractDataContext
from tqdm import tqdm

from common.files import write_text
from features.engine.arrow_types import arrow_schema
from features.quality import datadocs, derived_columns, expectations, partitions
from features.quality.datadocs import QualityGate
from features.quality.expectations import TABLES
from features.quality.results import Outcome, quiet_context, run_rules, to_json
from features.quality.rule import Rule, Scope
from features.schema import Role, Schema, free_name

GATE = QualityGate(
    name="validation",
    title="Data validation",
    remedy="No later stage runs until the log or its reader is fixed.",
)
BATCH_ROWS = 400_000
REASONS = pa.list_(pa.string())  # the type of the last column of the quarantine, which says why a row is there


@dataclass
class TableResult:
    """The result of one table: its rows, how many of them are in quarantine, and the outcome of each expectation."""

    table: str
    paths: list[Path]
    rules: tuple[Rule, ...]
    tolerance: float
    rows: int = 0
    quarantined: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the rows that are in quarantine."""
        return self.quarantined / self.rows if self.rows else 0.0

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes that did not pass, warnings too."""
        return [outcome for outcome in self.outcomes if not outcome.success]

    @property
    def faults(self) -> list[Outcome]:
        """Broken critical rules about the table as a whole: each of them closes the gate."""
        return [o for o in self.failed if o.rule.severity == "critical" and o.rule.scope != "row"]

    @property
    def passed(self) -> bool:
        """Whether the table is accepted."""
        return not self.faults and self.share <= self.tolerance

    def begin(self, scope: Scope) -> list[Outcome]:
        """New outcomes for the rules of one scope."""
        outcomes = [Outcome(rule) for rule in self.rules if rule.scope == scope]
        self.outcomes += outcomes
        return outcomes

    def report(self) -> dict[str, Any]:
        """The result as it stands in reports/validation.json."""
        return {
            "passed": self.passed,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "share": self.share,
            "tolerance": self.tolerance,
            "expectations": len(self.outcomes),
            "failed": [outcome.report() for outcome in self.failed],
        }

    def summary(self) -> str:
        """Row counts, and a line for each broken rule."""
        broken = [f"  {outcome.rule.severity}: {_describe(outcome)}" for outcome in self.failed]
        head = f"{self.table}: {self.rows:,} rows, {self.quarantined:,} in quarantine"
        return "\n".join([f"{head}, {len(self.outcomes)} expectations, {len(broken)} not met", *broken])


def limit_timestamps(schema: Schema, last: datetime.date | None) -> Schema:
    """`schema` in which no event may lie after the day `last` (UTC), nor after what the data set itself declares.

    The day is a parameter, not the clock: the same log has the same result whenever it is checked.
    """
    if last is None:
        return schema
    midnight = datetime.datetime.combine(last, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    latest = midnight.timestamp() - 1e-6
    (column,) = schema.by_role(Role.TIMESTAMP)
    latest = latest if column.maximum is None else min(latest, column.maximum)
    bounded = dataclasses.replace(column, maximum=latest)
    return dataclasses.replace(schema, events=tuple(bounded if c is column else c for c in schema.events))


def check_raw_log(
    schema: Schema, *, ingested: Path, out: Path, quarantine: Path, tolerance: float, batch_rows: int = BATCH_ROWS
) -> list[TableResult]:
    """The results of users, items and events; writes the accepted rows to `out` and the others to `quarantine`.

    Args:
        schema: Declaration of the data set.
        ingested: Folder of the tables that are checked.
        out: Folder for the accepted rows.
        quarantine: Folder for the broken rows with their reasons.
        tolerance: Share of a table's rows that may be broken.
        batch_rows: Rows that are checked at once, about.
    """
    context = quiet_context()
    results = [_new_result(schema, ingested, table, tolerance) for table in TABLES]
    out.mkdir(parents=True, exist_ok=True)
    quarantine.mkdir(parents=True, exist_ok=True)
    for result in results:
        _check_structure(context, result)
    if not any(result.faults for result in results):
        for result in results:
            _check_table(context, schema, result)
    if any(result.faults for result in results):
        _write_empty_quarantine(schema, quarantine)
        return results
    accepted: dict[str, pa.Table] = {}
    for result in results:
        checker = _RowChecker(context, schema, result, accepted)
        accepted[result.table] = checker.split(out, quarantine, batch_rows)
    return results


def write_report(results: list[TableResult], *, name: str, report: Path, docs: Path) -> None:
    """Write the report and Data Docs of the data set `name`: the same results give the same bytes."""
    tables = {result.table: result.report() for result in reversed(results)}
    write_text(report, to_json({"passed": all(result.passed for result in results), "tables": tables}))
    datadocs.build(GATE, tables, {result.table: result.outcomes for result in results}, docs, data=name)


def failure_message(results: list[TableResult], *, report: Path, docs: Path, quarantine: Path) -> str:
    """Why the gate is closed: each table beyond its tolerance with its broken rules, and what to do next."""
    lines = ["the quality gate is closed: no later stage runs."]
    for result in (result for result in reversed(results) if not result.passed):
        lines.append(
            f"  {result.table}: {result.quarantined:,} of {result.rows:,} rows in quarantine "
            f"({result.share:.2%}, tolerance {result.tolerance:.2%})"
        )
        lines += [f"    {_describe(outcome)}" for outcome in result.failed if outcome.rule.severity == "critical"]
    lines += [
        f"Report {report}, pages {docs / 'index.html'}, broken rows with their reasons {quarantine}.",
        "Fix the log or its reader; if such rows are to be expected, raise validate.tolerance in params.yaml. "
        "Then run `dvc repro` again.",
    ]
    return "\n".join(lines)


def _new_result(schema: Schema, ingested: Path, table: str, tolerance: float) -> TableResult:
    paths = partitions.files(ingested, table)
    return TableResult(table, paths, expectations.rules(schema, table), tolerance, rows=partitions.count(paths))


def _check_structure(context: AbstractDataContext, result: TableResult) -> None:
    """Columns and types of the files, once for each structure that occurs among them (no file: no columns)."""
    structures = {tuple(partitions.structure(path).items()) for path in result.paths} or {()}
    present = {name for structure in structures for name, _ in structure}
    outcomes = [outcome for outcome in result.begin("structure") if present.issuperset(outcome.rule.columns)]
    result.outcomes = outcomes  # the type of an absent column is not checked: another rule reports its absence
    for structure in sorted(structures):
        stored = dict(structure)
        checked = [outcome for outcome in outcomes if stored.keys() >= set(outcome.rule.columns)]
        evaluated = run_rules(context, [outcome.rule for outcome in checked], pd.DataFrame([stored]))
        for outcome, one in zip(checked, evaluated, strict=True):
            outcome.add_table(one, [stored[name] for name in outcome.rule.columns])


def _occurring(schema: Schema, paths: list[Path], name: str) -> pa.ChunkedArray:
    """The distinct values of a column of few; of a regression target, which has as many as rows, the extremes."""
    reader = derived_columns.extremes if name in schema.regressed else derived_columns.distinct_values
    return reader(paths, name)


def _check_table(context: AbstractDataContext, schema: Schema, result: TableResult) -> None:
    """Rules about the whole table: its row count, and the labels and scenarios that occur."""
    for outcome in result.begin("table"):
        occurring = pa.table({name: _occurring(schema, result.paths, name) for name in outcome.rule.columns})
        frame = pd.DataFrame(index=pd.RangeIndex(result.rows))
        if occurring.num_columns:
            frame = derived_columns.exact_frame(occurring)
        (one,) = run_rules(context, [outcome.rule], frame)
        outcome.add_table(one, [value for column in occurring for value in column.drop_null().to_pylist()])


def _write_empty_quarantine(schema: Schema, quarantine: Path) -> None:
    """Quarantine without rows: where a table as a whole is broken, no row is checked."""
    for table in TABLES:
        stored = _in_quarantine(arrow_schema(schema.tables[table]))
        pq.write_table(stored.empty_table(), quarantine / f"{table}.parquet")


class _RowChecker:
    """Checks the rows of one table; `accepted` holds the accepted ids of the tables that were checked before."""

    def __init__(
        self, context: AbstractDataContext, schema: Schema, result: TableResult, accepted: dict[str, pa.Table]
    ) -> None:
        self.context, self.schema, self.result, self.table = context, schema, result, result.table
        self.key = derived_columns.id_column(schema, result.table)
        repeated = derived_columns.repeated_ids(result.paths, self.key)
        self.known = derived_columns.KnownIds(repeated=repeated, accepted=accepted)
        self.outcomes = result.begin("row")

    def split(self, out: Path, quarantine: Path, batch_rows: int) -> pa.Table:
        """Write each row to `out` or `quarantine`; returns the accepted ids and, where the schema has one, known_at."""
        stored = arrow_schema(self.schema.tables[self.table])
        names = [name for name in (self.key, self.schema.known_at(self.table)) if name and self.table != "events"]
        accepted = [stored.empty_table().select(names)]
        with (
            tqdm(total=self.result.rows, desc=self.table, unit=" rows", unit_scale=True) as bar,
            partitions.Writer(out, self.table, stored) as writer,
            pq.ParquetWriter(quarantine / f"{self.table}.parquet", _in_quarantine(stored)) as rejects,
        ):
            for batch in partitions.batches(self.result.paths, batch_rows):
                good, bad = _split(batch, self._reasons(batch), stored.names)
                writer.write(good)
                if bad.num_rows:
                    rejects.write_table(bad.cast(_in_quarantine(stored)))
                accepted.append(good.select(names))
                self.result.quarantined += bad.num_rows
                bar.update(batch.num_rows)
        return pa.concat_tables(accepted)

    def _reasons(self, batch: pa.Table) -> dict[int, list[str]]:
        """The critical rules that each broken row of the batch breaks, by the index of the row."""
        rows = derived_columns.add_derived_columns(self.schema, self.table, batch, self.known)
        frame = derived_columns.to_frame(self.schema, self.table, rows)
        reasons: dict[int, list[str]] = defaultdict(list)
        evaluated = run_rules(self.context, [outcome.rule for outcome in self.outcomes], frame)
        for outcome, one in zip(self.outcomes, evaluated, strict=True):
            indices = outcome.add_rows(one, rows, self.key)
            if outcome.rule.severity == "critical":
                for index in indices:
                    reasons[index].append(outcome.rule.name)
        return reasons


def _in_quarantine(stored: pa.Schema) -> pa.Schema:
    """The columns of a table, and the reasons why a row is in quarantine."""
    return stored.append(pa.field(free_name("reasons", stored.names), REASONS))


def _split(batch: pa.Table, reasons: dict[int, list[str]], names: list[str]) -> tuple[pa.Table, pa.Table]:
    """The rows without reasons; and the columns `names` of those with reasons, and these, as the last column."""
    indices = sorted(reasons)
    good = np.ones(batch.num_rows, dtype=bool)
    good[indices] = False
    column = pa.array([reasons[index] for index in indices], REASONS)
    bad = batch.select(names).take(pa.array(indices, pa.int64()))
    return batch.filter(pa.array(good)), bad.append_column(free_name("reasons", names), column)


def _describe(outcome: Outcome) -> str:
    what = f"{outcome.broken:,} rows" if outcome.rule.scope == "row" else f"expected: {outcome.rule.sentence}"
    example = f", found e.g. {json.dumps(outcome.examples[0])}" if outcome.examples else ""
    return f"{outcome.rule.name}: {what}{example}"
