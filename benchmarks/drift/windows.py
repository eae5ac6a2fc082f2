"""Benchmark: what the statistics of a drift report cost, compared with another library on the same rows.

    python -m benchmarks.drift.windows --json windows.json --against PYTHON

An artificial log of 40 columns in six scenarios; half of its days are the reference, half the window. `--against` names
a Python that has Evidently (no dependency of this project), which gets the same two halves of a smaller log as frames,
already in memory. Its time is only that of its drift preset, once on all rows together, once scenario by scenario, as
in the drift report here. Every measurement runs in a separate process.
"""

import json as jsonlib
import multiprocessing
import resource
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from common import stage
from common.errors import PipelineError
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.encoding.histograms import Days
from features.encoding.window_rows import select_rows
from features.engine.connection import connect
from features.schema import Column, DType, Kind, Role, Schema, Task, inputs
from monitoring.detection.comparison import Comparison

SCENARIOS, DAYS, FIRST = ("a", "b", "c", "d", "e", "f"), 14, date(2026, 1, 5)
IDS = 1_000_000  # of users; a tenth as many items
EVIDENTLY = """
import sys, time
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
frames = [pd.read_parquet(path).drop(columns=["event_id", "timestamp"]) for path in sys.argv[1:3]]
def seconds(pairs):
    started = time.perf_counter()
    for reference, current in pairs:
        Report([DataDriftPreset(method="psi")]).run(current, reference).dict()
    return time.perf_counter() - started
names = sorted(frames[0]["scenario"].unique())
apart = [[frame[frame["scenario"] == name].drop(columns="scenario") for frame in frames] for name in names]
print(seconds([frames]), seconds(apart))
"""


def windows(
    *,
    rows: int = 10_000_000,
    fewer: int = 1_000_000,
    against: Path | None = None,
    json: Path = Path("artifacts/windows.json"),
) -> None:
    """Measure the statistics on two sizes of the log, the smaller one also with Evidently; print and write the result.

    Args:
        rows: Rows of the large log.
        fewer: Rows of the small log.
        against: A Python that has Evidently; None: without it.
        json: File of the result.
    """
    with tempfile.TemporaryDirectory() as temporary:
        large, small = (write_log(Path(temporary) / f"{size}.parquet", size) for size in (rows, fewer))
        report: dict[str, Any] = {"threads": stage.threads(), "columns": 40, "scenarios": len(SCENARIOS)}
        report["rows"] = {f"{size:,}": measured(path) for size, path in ((rows, large), (fewer, small))}
        if against is not None:
            whole, by_scenario = evidently(against, small)
            report["evidently_seconds"] = {"all rows in one": whole, "scenario by scenario": by_scenario}
            ours = report["rows"][f"{fewer:,}"]
            report["times_as_fast"] = {
                "reference and window": round(by_scenario / ours["seconds"], 1),
                "window, the reference being kept": round(by_scenario / ours["window_seconds"], 1),
                "window against all rows in one": round(whole / ours["window_seconds"], 1),
            }
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(jsonlib.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(jsonlib.dumps(report, indent=1))


def schema() -> Schema:
    """40 features: two ids, the scenario, 12 categories, 20 numbers (half of them logarithmic), five with gaps."""
    categories = tuple(_feature(f"category_{n}", DType.STRING, Kind.CATEGORICAL) for n in range(12))
    numbers = tuple(_feature(f"number_{n}", DType.FLOAT32, Kind.NUMERIC, log=n % 2 == 1) for n in range(20))
    gaps = tuple(_feature(f"gap_{n}", DType.FLOAT32, Kind.NUMERIC) for n in range(5))
    ids = {
        name: Column(name=name, role=role, dtype=DType.INT64, kind=Kind.CATEGORICAL)
        for name, role in (("user_id", Role.USER), ("item_id", Role.ITEM))
    }
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP),
        *ids.values(),
        Column(name="scenario", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=SCENARIOS),
        *categories,
        *numbers,
        *gaps,
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, values=(0, 1)),
    )
    users, items = ((ids[name],) for name in ("user_id", "item_id"))
    return Schema(
        name="windows", scenarios=SCENARIOS, tasks=(Task(name="click"),), events=events, users=users, items=items
    )


def _feature(name: str, dtype: DType, kind: Kind, *, log: bool = False) -> Column:
    return Column(name=name, role=Role.FEATURE, dtype=dtype, kind=kind, nullable=True, log=log)


def write_log(path: Path, rows: int) -> Path:
    """Write a log of so many rows, spread evenly over the days."""
    normal = "sqrt(-2 * ln(1 - random())) * cos(6.283185307 * random())"
    columns = [
        "range as event_id",
        f"date '{FIRST}' + to_microseconds((random() * {DAYS} * 86400e6)::bigint) as timestamp",
        f"({IDS} * random() * random())::bigint as user_id",
        f"({IDS // 10} * random() * random())::bigint as item_id",
        f"{list(SCENARIOS)}[1 + floor(6 * random() * random())::bigint] as scenario",
        *(f"'value ' || ({5 * (n + 1)} * random() * random())::bigint as category_{n}" for n in range(12)),
        *(f"({'exp' if n % 2 else ''}({normal}))::float as number_{n}" for n in range(20)),
        *(f"(case when random() < 0.9 then {normal} end)::float as gap_{n}" for n in range(5)),
        "(random() < 0.1)::tinyint as click",
    ]
    with connect() as connection:
        connection.execute(f"copy (select {', '.join(columns)} from range({rows})) to '{path.as_posix()}'")
    return path


def measured(path: Path) -> dict[str, float]:
    """Seconds and peak memory of the statistics in a new process: the reference, the window and its distances."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, path).result()


def measure(path: Path) -> dict[str, float]:
    """Like `measured`, in this process."""
    declared, middle = schema(), FIRST + timedelta(days=DAYS // 2)
    halves = [(FIRST, middle - timedelta(days=1)), (middle, FIRST + timedelta(days=DAYS))]
    before, after = (write_days(path, days, path.with_suffix(f".{n}.half")) for n, days in enumerate(halves))
    encoder = fit_encoder(declared, inputs(declared, ()), before, minimum_count=3)
    started = time.perf_counter()
    reference = fit_reference(before, declared, encoder)
    fitted = time.perf_counter()
    current = count_histograms(after, declared, encoder, reference.bins)
    comparison = Comparison(reference, current, fewest=500, history_days={})
    comparison.columns(declared, {}), comparison.mix(declared), list(comparison.labels(declared))
    return {
        "reference_seconds": round(fitted - started, 2),
        "window_seconds": round(time.perf_counter() - fitted, 2),
        "seconds": round(time.perf_counter() - started, 2),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def write_days(path: Path, days: Days, out: Path) -> Path:
    """Write some days of a log to another file."""
    with connect(share=3 / 4) as connection:
        connection.execute(f"copy ({select_rows(path, schema(), days)}) to '{out.as_posix()}' (format parquet)")
    return out


def evidently(python: Path, path: Path) -> tuple[float, float]:
    """Seconds of Evidently's drift preset on the same two halves, all rows in one report and a report per scenario.

    Raises PipelineError where it fails.
    """
    middle = FIRST + timedelta(days=DAYS // 2)
    halves = [(FIRST, middle - timedelta(days=1)), (middle, FIRST + timedelta(days=DAYS))]
    files = [str(write_days(path, days, path.with_suffix(f".{n}.parquet"))) for n, days in enumerate(halves)]
    done = subprocess.run([str(python), "-c", EVIDENTLY, *files], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"{python} could not run Evidently:\n{done.stderr[-2000:]}")
    whole, by_scenario = map(float, done.stdout.split()[-2:])
    return round(whole, 2), round(by_scenario, 2)


if __name__ == "__main__":
    stage.run(windows)
