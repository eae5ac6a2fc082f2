"""The encoder's view of a window of rows: counts by column, scenario and day on frozen bins, made by DuckDB.

Small whatever the number of rows, out of core, and mergeable: two windows without a day in common are one by adding up.
Sums are of integers (millionths), so that the same rows give the same bytes on any number of threads.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from common import stage
from common.errors import SchemaError
from features.encoding.bins import MISSING, OTHER, UNKNOWN, Bins, fit_bins
from features.encoding.encoder import Encoder
from features.schema import Schema

DAYS = 40  # a longer window is counted by periods of several days
LARGEST = 1e12  # numbers beyond count as this in sums, so that a millionth of them still fits into 64 bits
Counts = NDArray[np.int64]
Days = tuple[date, date]  # the first and the last day (UTC) of a window


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Of one window: `counts` by the name of the bins [P, S, bins], for P periods of `period_days` days, S scenarios.

    `sums` hold, of a number as the encoder scales it, the sum by bin in millionths [S, bins]; `moments` of the raw
    number over its `unit` the count, sum and sum of squares in millionths [S, 3]; `effective` the mean over the days of
    exp(entropy) of a category with more values than bins [S]; `labels` by task the observed rows and the positives of
    each day [D, S, 2], of the days from `first_day` on; `rows` [D, S].
    """

    first_day: date
    period_days: int
    scenarios: tuple[str, ...]
    bins: tuple[Bins, ...]
    rows: Counts
    counts: dict[str, Counts]
    sums: dict[str, list[list[int]]]
    moments: dict[str, list[list[int]]]
    effective: dict[str, list[float | None]]
    labels: dict[str, Counts]

    @property
    def days(self) -> list[date]:
        """The days of the window, those without rows too."""
        return [self.first_day + timedelta(days=place) for place in range(len(self.rows))]

    @property
    def last_day(self) -> date:
        """The last day of the window."""
        return self.days[-1]

    def of(self, name: str) -> Counts:
        """Counts [S, bins] over the whole window."""
        total: Counts = self.counts[name].sum(axis=0)
        return total

    def merge(self, later: "Histograms") -> "Histograms":
        """One window with a later one; raises SchemaError where the bins or the days do not fit together."""
        if later.bins != self.bins or later.scenarios != self.scenarios or later.period_days != self.period_days:
            raise SchemaError("histograms on different bins cannot be merged: count both windows on the same reference")
        gap = (later.first_day - self.last_day).days - 1
        if gap < 0 or (len(self.rows) + gap) % self.period_days:
            raise SchemaError(
                f"windows {self.first_day} .. {self.last_day} and {later.first_day} .. {later.last_day}: "
                "expected the second to begin after the first, at the start of a period"
            )
        periods = (len(self.rows) + gap) // self.period_days - len(next(iter(self.counts.values())))
        return dataclasses.replace(
            self,
            rows=_behind(self.rows, later.rows, gap),
            counts={name: _behind(held, later.counts[name], periods) for name, held in self.counts.items()},
            sums={name: _added(held, later.sums[name]) for name, held in self.sums.items()},
            moments={name: _added(held, later.moments[name]) for name, held in self.moments.items()},
            effective={name: _mean(held, later.effective[name]) for name, held in self.effective.items()},
            labels={task: _behind(held, later.labels[task], gap) for task, held in self.labels.items()},
        )

    def write(self, path: Path) -> None:
        """Write as JSON, the same bytes for the same histograms."""
        plain = {
            "first_day": self.first_day.isoformat(),
            "period_days": self.period_days,
            "scenarios": self.scenarios,
            "bins": [bins.to_plain() for bins in self.bins],
            "rows": self.rows.tolist(),
            "counts": {name: held.tolist() for name, held in self.counts.items()},
            "sums": self.sums,
            "moments": self.moments,
            "effective": self.effective,
            "labels": {task: held.tolist() for task, held in self.labels.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Histograms":
        """The histograms that `write` wrote."""
        plain = json.loads(path.read_text())
        arrays = {
            "rows": np.array(plain["rows"]),
            "counts": {name: np.array(held) for name, held in plain["counts"].items()},
            "labels": {task: np.array(held) for task, held in plain["labels"].items()},
        }
        typed = {"first_day": date.fromisoformat(plain["first_day"]), "scenarios": tuple(plain["scenarios"])}
        return cls(**{**plain, **typed, **arrays, "bins": tuple(Bins.of(one) for one in plain["bins"])})


def fit_reference(rows: Path, schema: Schema, encoder: Encoder) -> Histograms:
    """Bins fitted on the Parquet file `rows` (the training rows), and the histograms of these rows."""
    with _opened(f"select *, {_date(schema)} as _date from ({selected(rows, schema)})", "training") as connection:
        bins = fit_bins(connection, encoder)
    first, last = span(rows, schema)
    period = -(-((last - first).days + 1) // DAYS)
    return count(rows, schema, encoder, bins, period_days=period)


def selected(rows: Path, schema: Schema, days: Days | None = None) -> str:
    """The query for the Parquet file(s) `rows` (a path or a pattern), all or those of some days."""
    source = f"select * from read_parquet('{rows.as_posix()}', hive_partitioning = false)"
    return (
        source if days is None else f"{source} where \"{schema.timestamp}\"::date between '{days[0]}' and '{days[1]}'"
    )


def span(rows: Path, schema: Schema, days: Days | None = None) -> Days:
    """First and last day of the Parquet file(s) `rows`; raises SchemaError where there are no rows."""
    with _opened(selected(rows, schema, days), "training") as connection:
        moment = f'"{schema.timestamp}"::date'
        first, last = connection.execute(f"select min({moment}), max({moment}) from training").fetchone() or (None,) * 2
    if first is None:
        between = f" from {days[0]} to {days[1]}" if days else ""
        raise SchemaError(f"{rows} holds no rows{between}: there is nothing to make histograms of")
    return first, last


def count(
    rows: Path,
    schema: Schema,
    encoder: Encoder,
    bins: Sequence[Bins],
    *,
    period_days: int = 1,
    days: Days | None = None,
) -> Histograms:
    """Histograms of the Parquet file(s) `rows`, or of some `days` of them, on frozen `bins`; a column is read once."""
    first, last = span(rows, schema, days)
    shape = ((last - first).days // period_days + 1, len(schema.scenarios))
    counts, sums, moments, effective = {}, {}, {}, {}
    with _opened(selected(rows, schema, days), "raw") as connection:
        _declare(connection, schema, first, period_days)
        of_days = connection.execute(_of_days(schema)).fetchnumpy()
        _check_scenarios(of_days, rows, schema)
        _declare_values(connection, encoder, bins)
        for one in tqdm(bins, desc="histograms", unit="column", mininterval=1):
            found = connection.execute(_numbers(one) if one.numeric else _categories(one)).fetchnumpy()
            counts[one.name] = _spread(found, (*shape, one.count))
            if one.numeric:
                sums[one.name] = _sums(found, "scaled", (shape[1], one.count))
                moments[one.name] = _moments(found, shape[1])
            elif counts[one.name][..., OTHER].any():
                effective[one.name] = _effective(connection, one, shape[1])
    daily = ((last - first).days + 1, shape[1])
    return Histograms(
        first_day=first,
        period_days=period_days,
        scenarios=schema.scenarios,
        bins=tuple(bins),
        rows=_placed(of_days, "rows", daily),
        counts=counts,
        sums=sums,
        moments=moments,
        effective=effective,
        labels={
            task: np.stack([_placed(of_days, f"{what} {task}", daily) for what in ("observed", "positive")], axis=-1)
            for task in schema.rated
        },
    )


@contextmanager
def _opened(query: str, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose view `name` is the query, out of core within 1.5 GB."""
    with TemporaryDirectory() as spill:
        settings: dict[str, Any] = {"memory_limit": "1500MB", "temp_directory": spill, "threads": stage.threads()}
        with duckdb.connect(config=settings) as connection:
            connection.execute(f"create view {name} as {query}")
            yield connection


def _declare(connection: duckdb.DuckDBPyConnection, schema: Schema, first: date, period_days: int) -> None:
    """The view `rows`: what is in `raw`, with numbers for the scenario, the day and the period."""
    names = ", ".join(f"'{name}'" for name in schema.scenarios)
    connection.execute(
        f'create view rows as select *, list_position([{names}], "{schema.scenario}"::varchar) - 1 as _scenario, '
        f"{_date(schema)} as _date, date_diff('day', date '{first}', \"{schema.timestamp}\"::date) as _day, "
        f"_day // {period_days} as _period "
        "from raw"
    )


def _date(schema: Schema) -> str:
    """The day of the impression, since 1970."""
    return f"date_diff('day', date '1970-01-01', \"{schema.timestamp}\"::date)"


def _check_scenarios(of_days: dict[str, NDArray[Any]], rows: Path, schema: Schema) -> None:
    strange = np.ma.getmaskarray(of_days["scenario"])
    if strange.any():
        number = int(of_days["rows"][strange].sum())
        raise SchemaError(f"{rows}: {number:,} rows have a {schema.scenario} that is none of {schema.scenarios}")


def _declare_values(connection: duckdb.DuckDBPyConnection, encoder: Encoder, bins: Sequence[Bins]) -> None:
    """A table per categorical column: the bin of each value that the encoder knows."""
    for one in bins:
        if not one.numeric:
            known = pa.array(encoder.tables[one.vocabulary] or [None])
            own = {value: place for place, value in enumerate(one.values, start=OTHER + 1)}
            places = pa.array([own.get(value, OTHER) for value in known.to_pylist()], pa.int32())
            values = pa.table({"value": known, "bin": places})  # noqa: F841 (DuckDB reads it by name)
            connection.execute(f'create table "bins of {one.name}" as select * from values where value is not null')


def _numbers(bins: Bins) -> str:
    low, *inner, high = bins.edges
    steps = " ".join(f"when value < {edge!r} then {place}" for place, edge in enumerate(inner, start=2))
    cut = f"case when not isnan(value) then greatest(least(value, {LARGEST}), -{LARGEST}) end"  # least(null, 1) is 1
    scaled = "ln(1 + case when cut > 0 then cut else 0 * cut end)" if bins.log else "cut"
    part = f"case when cut is not null then greatest(least(cut / {bins.unit!r}, 1e6), -1e6) end"
    return f"""
        select _scenario as scenario, _period as period, bin, count(*) as rows, sum((scaled * 1e6)::bigint) as scaled,
               sum((part * 1e6)::bigint) as raw, sum((part * part * 1e6)::bigint) as square
        from (select *, {scaled} as scaled, {part} as part from (select _scenario, _period, {cut} as cut,
                     case when value is null or isnan(value) then {MISSING} when value < {low!r} then 1
                          when value > {high!r} then {bins.count - 1} {steps} else {bins.count - 2} end as bin
              from (select _scenario, _period, {bins.number} as value from rows)))
        group by all"""


def _categories(bins: Bins) -> str:
    return f"""
        select _scenario as scenario, _period as period, rows, bin from (
            select _scenario, _period, count(*) as rows,
                   case when given.value is null then {MISSING} else coalesce(held.bin, {UNKNOWN}) end as bin
            from ({_values(bins)}) as given left join "bins of {bins.name}" as held on given.value = held.value
            group by all)"""


def _values(bins: Bins) -> str:
    """One row per value; an empty list is a missing one."""
    value = f'"{bins.column}"'
    if bins.several:
        value = f"unnest(case when coalesce(len({value}), 0) = 0 then [null] else {value} end)"
    return f"select _scenario, _period, _day, {value} as value from rows"


def _effective(connection: duckdb.DuckDBPyConnection, bins: Bins, scenarios: int) -> list[float | None]:
    """exp(entropy) of the values of a day, mean over the days with values, by scenario."""
    found = dict(
        connection.execute(f"""
            with counted as (select _scenario, _day, value, count(*) as n from ({_values(bins)})
                             where value is not null group by all),
            shares as (select _scenario, _day, n / sum(n) over (partition by _scenario, _day) as p from counted),
            daily as (select _scenario, _day, exp(-sum(p * ln(p))) as effective from shares group by all)
            select _scenario, avg(effective) from daily group by all""").fetchall()
    )
    return [float(f"{found[place]:.4g}") if place in found else None for place in range(scenarios)]


def _of_days(schema: Schema) -> str:
    tasks = "".join(
        f', count("{task}") as "observed {task}", coalesce(sum("{task}"), 0)::bigint as "positive {task}"'
        for task in schema.rated
    )
    return f"select _scenario as scenario, _day as day, count(*) as rows{tasks} from rows group by all"


def _spread(found: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> Counts:
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (found["period"], found["scenario"], found["bin"]), found["rows"])
    return counts


def _placed(found: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Counts:
    counts = np.zeros(shape, np.int64)
    counts[found["day"], found["scenario"]] = found[name]
    return counts


def _sums(found: dict[str, NDArray[Any]], name: str, shape: tuple[int, int]) -> list[list[int]]:
    total = [[0] * shape[1] for _ in range(shape[0])]
    for scenario, place, value in zip(found["scenario"], found["bin"], found[name], strict=True):
        total[scenario][place] += _whole(value)
    return total


def _moments(found: dict[str, NDArray[Any]], scenarios: int) -> list[list[int]]:
    total = [[0, 0, 0] for _ in range(scenarios)]
    columns = (found[name] for name in ("scenario", "bin", "rows", "raw", "square"))
    for scenario, place, rows, raw, square in zip(*columns, strict=True):
        if place != MISSING:
            total[scenario] = [
                total[scenario][0] + int(rows),
                total[scenario][1] + _whole(raw),
                total[scenario][2] + _whole(square),
            ]
    return total


def _whole(value: Any) -> int:
    return 0 if value is None or value is np.ma.masked or value != value else int(value)


def _behind(first: Counts, second: Counts, gap: int) -> Counts:
    return np.concatenate([first, np.zeros((gap, *first.shape[1:]), np.int64), second])


def _added(first: list[list[int]], second: list[list[int]]) -> list[list[int]]:
    return [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]


def _mean(first: list[float | None], second: list[float | None]) -> list[float | None]:
    pairs = zip(first, second, strict=True)
    return [a if b is None else b if a is None else (a + b) / 2 for a, b in pairs]
