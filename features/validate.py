"""Stage: Great Expectations on what came in; broken rows to quarantine; the gate.

A row that breaks a critical row rule goes to quarantine with its reasons, and so does an event whose user or
item went there; the rest goes on, up to a tolerance. Beyond it, or where a critical rule about a whole table is
broken, the gate closes: nothing goes on, and the report and Data Docs say why. The input is only ever read.
Events are checked in batches, so memory does not grow with the log.
"""

import dataclasses
import datetime
import json
import shutil
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

from common import params, stage
from common.errors import ValidationError
from features.engine.arrow_types import arrow_schema
from features.quality import datadocs, derived_columns, expectations, partitions
from features.quality.expectations import TABLES, Rule, Scope
from features.quality.results import Outcome, evaluate, quiet_context, to_json
from features.schema import Role, Schema, read_schema

BATCH_ROWS = 250_000
REASONS = pa.field("reasons", pa.list_(pa.string()))


@dataclass
class Verdict:
    """What became of one table: its rows, how many of them are in quarantine, and the outcome of each expectation."""

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
        """Critical rules about the table as a whole that are broken: each of them closes the gate."""
        return [o for o in self.failed if o.rule.severity == "critical" and o.rule.scope != "row"]

    @property
    def passed(self) -> bool:
        """Whether the table may go on."""
        return not self.faults and self.share <= self.tolerance

    def begin(self, scope: Scope) -> list[Outcome]:
        """Fresh outcomes for the rules of one scope."""
        asked = [Outcome(rule) for rule in self.rules if rule.scope == scope]
        self.outcomes += asked
        return asked

    def report(self) -> dict[str, Any]:
        """The verdict as it stands in reports/validation.json."""
        return {
            "passed": self.passed,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "share": self.share,
            "tolerance": self.tolerance,
            "expectations": len(self.outcomes),
            "failed": [outcome.report() for outcome in self.failed],
        }


def validate(*, schema: Path, ingested: Path, out: Path, quarantine: Path, report: Path, docs: Path) -> None:
    """Check events, users and items under `ingested`; write the accepted rows to `out`, the others to `quarantine`.

    Writes reports/validation.json (`report`) and Data Docs (`docs`) in either case; raises ValidationError if the
    data broke a rule beyond the tolerance in params.yaml.
    """
    settings = params.load().validation
    declared = end(read_schema(schema), settings.not_after)
    verdicts = examine(
        declared,
        ingested=ingested,
        out=out,
        quarantine=quarantine,
        tolerance=settings.tolerance,
    )
    publish(verdicts, name=declared.name, report=report, docs=docs)
    if not all(verdict.passed for verdict in verdicts):
        shutil.rmtree(out)  # nobody may mistake it for data that passed
        raise ValidationError(_message(verdicts, report=report, docs=docs, quarantine=quarantine))
    for verdict in reversed(verdicts):
        print(_summary(verdict), flush=True)


def end(schema: Schema, last: datetime.date | None) -> Schema:
    """`schema` in which no event may lie after the day `last` (UTC), nor after what the data set itself declares.

    A parameter and not the clock: the same log gives the same verdict whenever it is judged.
    """
    if last is None:
        return schema
    midnight = datetime.datetime.combine(last, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    latest = midnight.timestamp() - 1e-6
    (column,) = schema.by_role(Role.TIMESTAMP)
    latest = latest if column.maximum is None else min(latest, column.maximum)
    bounded = dataclasses.replace(column, maximum=latest)
    return dataclasses.replace(schema, events=tuple(bounded if c is column else c for c in schema.events))


def examine(
    schema: Schema, *, ingested: Path, out: Path, quarantine: Path, tolerance: float, batch_rows: int = BATCH_ROWS
) -> list[Verdict]:
    """The verdicts on users, items and events; writes the accepted rows to `out` and the others to `quarantine`."""
    context = quiet_context()
    verdicts = [_fresh_verdict(schema, ingested, table, tolerance) for table in TABLES]
    out.mkdir(parents=True, exist_ok=True)
    quarantine.mkdir(parents=True, exist_ok=True)
    for verdict in verdicts:
        _judge_structure(context, verdict)
    if not any(verdict.faults for verdict in verdicts):
        for verdict in verdicts:
            _judge_table(context, verdict)
    if any(verdict.faults for verdict in verdicts):
        return _write_nothing(schema, verdicts, quarantine)
    accepted: dict[str, pa.Table] = {}
    for verdict in verdicts:
        accepted[verdict.table] = _judge_rows(context, schema, verdict, accepted, out, quarantine, batch_rows)
    return verdicts


def _fresh_verdict(schema: Schema, ingested: Path, table: str, tolerance: float) -> Verdict:
    paths = partitions.files(ingested, table)
    return Verdict(table, paths, expectations.rules(schema, table), tolerance, rows=partitions.count(paths))


def publish(verdicts: list[Verdict], *, name: str, report: Path, docs: Path) -> None:
    """Write the report and Data Docs of the data set `name`: the same verdicts give the same bytes."""
    report.parent.mkdir(parents=True, exist_ok=True)
    tables = {verdict.table: verdict.report() for verdict in reversed(verdicts)}
    report.write_text(to_json({"passed": all(verdict.passed for verdict in verdicts), "tables": tables}))
    datadocs.build(name, tables, {verdict.table: verdict.outcomes for verdict in verdicts}, docs)


def _judge_structure(context: AbstractDataContext, verdict: Verdict) -> None:
    """Columns and types of the files, once for each structure that occurs among them (no file: no columns)."""
    structures = {tuple(partitions.structure(path).items()) for path in verdict.paths} or {()}
    present = {name for structure in structures for name, _ in structure}
    outcomes = [outcome for outcome in verdict.begin("structure") if present.issuperset(outcome.rule.columns)]
    verdict.outcomes = outcomes  # a column that is absent has no type; that it is absent says a rule of its own
    for structure in sorted(structures):
        stored = dict(structure)
        asked = [outcome for outcome in outcomes if stored.keys() >= set(outcome.rule.columns)]
        results = evaluate(context, [outcome.rule for outcome in asked], pd.DataFrame([stored]))
        for outcome, result in zip(asked, results, strict=True):
            outcome.add_table(result, [stored[name] for name in outcome.rule.columns])


def _judge_table(context: AbstractDataContext, verdict: Verdict) -> None:
    """Facts about the whole table: its row count, and the labels and scenarios that occur."""
    for outcome in verdict.begin("table"):
        occurring = pa.table({name: derived_columns.distinct(verdict.paths, name) for name in outcome.rule.columns})
        frame = occurring.to_pandas() if occurring.num_columns else pd.DataFrame(index=pd.RangeIndex(verdict.rows))
        (result,) = evaluate(context, [outcome.rule], frame)
        outcome.add_table(result, [value for column in occurring for value in column.drop_null().to_pylist()])


def _judge_rows(
    context: AbstractDataContext,
    schema: Schema,
    verdict: Verdict,
    accepted: dict[str, pa.Table],
    out: Path,
    quarantine: Path,
    batch_rows: int,
) -> pa.Table:
    """Send each row its way; returns the accepted ids and, where the schema has one, their known_at."""
    table, key = verdict.table, expectations.identifier(schema, verdict.table)
    beyond = derived_columns.Known(repeated=derived_columns.repeated(verdict.paths, key), accepted=accepted)
    stored = arrow_schema(schema.tables[table])
    names = [name for name in (key, schema.known_at(table)) if name and table != "events"]
    outcomes, passed = verdict.begin("row"), [stored.empty_table().select(names)]
    bar = tqdm(total=verdict.rows, desc=table, unit=" rows", unit_scale=True)
    with (
        bar,
        partitions.Writer(out, table, stored) as keep,
        pq.ParquetWriter(quarantine / f"{table}.parquet", stored.append(REASONS)) as aside,
    ):
        for batch in partitions.batches(verdict.paths, batch_rows):
            rows = derived_columns.add(schema, table, batch, beyond)
            reasons = _reasons(context, outcomes, derived_columns.frame(schema, table, rows), rows, key)
            good, bad = _split(batch, reasons)
            keep.write(good)
            if bad.num_rows:
                aside.write_table(bad.select([*stored.names, REASONS.name]).cast(stored.append(REASONS)))
            passed.append(good.select(names))
            verdict.quarantined += bad.num_rows
            bar.update(batch.num_rows)
    return pa.concat_tables(passed)


def _reasons(
    context: AbstractDataContext, outcomes: list[Outcome], frame: pd.DataFrame, rows: pa.Table, key: str
) -> dict[int, list[str]]:
    """The critical rules that each broken row of the batch breaks, by its place."""
    reasons: dict[int, list[str]] = defaultdict(list)
    results = evaluate(context, [outcome.rule for outcome in outcomes], frame)
    for outcome, result in zip(outcomes, results, strict=True):
        places = outcome.add_rows(result, rows, key)
        if outcome.rule.severity == "critical":
            for place in places:
                reasons[place].append(outcome.rule.name)
    return reasons


def _split(batch: pa.Table, reasons: dict[int, list[str]]) -> tuple[pa.Table, pa.Table]:
    """The rows without reasons, and those with them in a column of their own."""
    places = sorted(reasons)
    good = np.ones(batch.num_rows, dtype=bool)
    good[places] = False
    why = pa.array([reasons[place] for place in places], REASONS.type)
    return batch.filter(pa.array(good)), batch.take(pa.array(places, pa.int64())).append_column(REASONS, why)


def _write_nothing(schema: Schema, verdicts: list[Verdict], quarantine: Path) -> list[Verdict]:
    """Quarantine without rows: where a table as a whole is broken, no row is judged."""
    for verdict in verdicts:
        stored = arrow_schema(schema.tables[verdict.table], REASONS)
        pq.write_table(stored.empty_table(), quarantine / f"{verdict.table}.parquet")
    return verdicts


def _summary(verdict: Verdict) -> str:
    head = f"{verdict.table}: {verdict.rows:,} rows, {verdict.quarantined:,} in quarantine"
    broken = [f"  {outcome.rule.severity}: {_told(outcome)}" for outcome in verdict.failed]
    return "\n".join([f"{head}, {len(verdict.outcomes)} expectations, {len(broken)} not met", *broken])


def _message(verdicts: list[Verdict], *, report: Path, docs: Path, quarantine: Path) -> str:
    lines = ["the gate is closed, nothing goes on."]
    for verdict in (verdict for verdict in reversed(verdicts) if not verdict.passed):
        lines.append(
            f"  {verdict.table}: {verdict.quarantined:,} of {verdict.rows:,} rows in quarantine "
            f"({verdict.share:.2%}, tolerance {verdict.tolerance:.2%})"
        )
        lines += [f"    {_told(outcome)}" for outcome in verdict.failed if outcome.rule.severity == "critical"]
    lines += [
        f"Report {report}, pages {docs / 'index.html'}, broken rows with their reasons {quarantine}.",
        "Mend the log or its reader; if such rows are to be expected, raise validate.tolerance in params.yaml. "
        "Then run `dvc repro` again.",
    ]
    return "\n".join(lines)


def _told(outcome: Outcome) -> str:
    what = f"{outcome.broken:,} rows" if outcome.rule.scope == "row" else f"expected: {outcome.rule.sentence}"
    example = f", found e.g. {json.dumps(outcome.examples[0])}" if outcome.examples else ""
    return f"{outcome.rule.name}: {what}{example}"


if __name__ == "__main__":
    stage.run(validate)
