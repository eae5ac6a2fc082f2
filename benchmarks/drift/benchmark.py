"""Benchmark: are planted changes found, and is there quiet where nothing was planted; and what a report costs.

    python -m benchmarks.drift.benchmark --seeds 50 --json drift.json

Every seed is another town of the simulation, 21 days long: the first 17 days are the reference, the last two (a
weekend) the window. The features are those of the pipeline (impression, profiles, statistics as of the moment). The
model is the best that there can be: it says the true probabilities of the town before the change, on the two days
between (the validation rows) and in the window. New items it knows from the start.
"""

import contextlib
import json as jsonlib
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.accuracy.runs import without_progress_bars
from common import params, stage
from common.errors import ParameterError
from common.paths import ROOT
from features.aggregate import aggregate
from features.datasets.log import TRUE
from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.encoding.histograms import Histograms
from features.ingest import ingest
from features.schema import EVENT_TIMESTAMP, Schema, View, inputs, read_schema, read_views
from models.evaluation.reference_profile import score_cells
from monitoring.detection.comparison import Comparison
from monitoring.detection.score_shift import compare_auc, compare_scores
from monitoring.detection.verdict import evaluate

DAYS, TRAINED, PLANTED = 21, 17, 20  # days of the log, of the reference, and the first day of the change
VALIDATED, JUDGED = (TRAINED, PLANTED - 1), (PLANTED - 1, DAYS)  # days from and before, counted from 0
SIZE = {"impressions": 200_000, "users": 8_000, "items": 2_000, "days": DAYS}
SCENARIO = "channel"  # that a change of one scenario is planted in,
OF_ORDERS = "search"  # and one of orders: channel has some 25 in the window, too few to miss three fifths of
QUIET = ("none", "season")  # kinds without a change
FAULTS = ("missing", "unit", "swapped")  # kinds that touch nothing of which statistics are made
OTHER_ROWS = ("covariate", "mix", "new_items")  # kinds under which other impressions are shown, their truth as before
STALLED, BEHIND = "stalled", timedelta(days=2)  # the log as ever, but features as they were so long ago
Finding = dict[str, Any]

SOUGHT: dict[str, Callable[[Finding], bool]] = {
    "covariate": lambda f: (f["kind"], f["column"], f["scenario"]) == ("covariate", "device", SCENARIO),
    "mix": lambda f: (f["kind"], f["scenario"]) == ("mix", SCENARIO),
    "new_items": lambda f: (f["kind"], f["column"], f["scenario"]) == ("new_values", "item_id", "all"),
    "missing": lambda f: (f["kind"], f["column"], f["scenario"]) == ("missing", "distance_km", "all"),
    "unit": lambda f: (f["kind"], f["column"], f["scenario"]) == ("unit", "distance_km", "all"),
    "swapped": lambda f: (f["kind"], f["column"], f["scenario"]) == ("swapped", "device", "all"),
    "conversion": lambda f: (f["kind"], f["scenario"], f["task"]) == ("label_rate", OF_ORDERS, "order"),
    "taste": lambda f: f["kind"] == "ranking",
    STALLED: lambda f: (f["kind"], f["column"], f["scenario"]) == ("outdated", "user_recent_items: age", "all"),
}


EVERY = (*QUIET, *SOUGHT)


@dataclass(frozen=True)
class World:
    """A town on disk, its reference fitted on the days before the change."""

    folder: Path
    schema: Schema
    views: tuple[View, ...]
    encoder: Encoder
    reference: Histograms
    scores: dict[str, Any]  # of the validation rows, by cell


def drift(
    *,
    seeds: int = 50,
    only: str | None = None,
    processes: int | None = None,
    json: Path = Path("artifacts/drift.json"),
) -> None:
    """Plant every change in `seeds` towns; print how often it was found, and how often there was a false alarm.

    `only` those that are named, with commas between.
    What stands in the file `json` already, of towns of the same size, is not asked again.
    """
    kinds = frozenset(only.split(",") if only else EVERY)
    if strange := kinds - {*EVERY}:
        raise ParameterError(f"--only {only}: {sorted(strange)} are none of {EVERY}")
    kept: dict[str, Any] = jsonlib.loads(json.read_text()) if json.is_file() else {}
    found: list[dict[str, Any]] = kept["runs"] if kept.get("size") == SIZE else []
    wanted = {seed: missing for seed in range(1, seeds + 1) if (missing := kinds - kinds_of(found, seed))}
    with (
        without_progress_bars(),
        ProcessPoolExecutor(processes or stage.threads(), mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        asked = [pool.submit(town, seed, missing) for seed, missing in wanted.items()]
        for done in tqdm(as_completed(asked), total=len(asked), unit="town", desc="drift"):
            found += done.result()
            json.parent.mkdir(parents=True, exist_ok=True)
            json.write_text(jsonlib.dumps({"size": SIZE, "runs": found}, indent=1) + "\n")
    show(found)


def kinds_of(runs: list[dict[str, Any]], seed: int) -> set[str]:
    """The kinds of change that were tried in the town of this seed."""
    return {run["kind"] for run in runs if run["seed"] == seed}


def town(seed: int, kinds: frozenset[str]) -> list[dict[str, Any]]:
    """What the report says of each of these kinds of change in the town of this seed."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, found = Path(temporary), []
        if kinds != {"season"}:
            world = found_world(folder / "none", seed, "none")
            asked = [kind for kind in ("none", *SOUGHT) if kind in kinds]
            found = [outcome(seed, kind, planted(world, kind, seed, folder / kind)) for kind in asked]
        if "season" in kinds:  # another log from the first day on
            world = found_world(folder / "season", seed, "season")
            found.append(outcome(seed, "season", report(world, "season", world.folder)))
        return found


def planted(world: World, kind: str, seed: int, changed: Path) -> dict[str, Any]:
    """The report on the town with this kind of change, whose log lies in `changed` meanwhile."""
    if kind in ("none", STALLED):  # the log as it is
        return report(world, kind, world.folder, BEHIND if kind == STALLED else timedelta(0))
    make(changed, seed, kind, features=world.folder / "features" if kind in FAULTS else None)
    made = report(world, kind, changed)
    shutil.rmtree(changed)
    return made


def found_world(folder: Path, seed: int, kind: str) -> World:
    """The town, its encoder and its reference, and what the model does on the validation rows."""
    make(folder, seed, kind)
    schema, views = read_schema(folder / "schema.json"), read_views(folder / "features" / "views.json")
    train = join(folder, schema, views, "train", (0, TRAINED))
    settings = params.load(folder / "params.yaml")
    encoder = fit_encoder(schema, inputs(schema, views), train, settings.encode.minimum_count)
    scores = score_cells(*told(join(folder, schema, views, "valid", VALIDATED), schema, folder), schema)
    return World(folder, schema, views, encoder, fit_reference(train, schema, encoder), scores)


def told(rows: Path, schema: Schema, folder: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What is true of the rows, by `folder` [N, T], their labels [N, T] and codes of their scenarios [N]."""
    truth = (folder / "truth" / "truth.parquet").as_posix()
    true, labels = ([f'"{before}{task}"' for task in schema.task_names] for before in (TRUE, ""))
    found = duckdb.sql(
        f"select {', '.join((*true, *labels))}, list_position({list(schema.scenarios)}, {schema.scenario}) - 1 as code "
        f"from '{rows.as_posix()}' join '{truth}' using ({schema.event_id})"
    ).fetchnumpy()
    columns = list(found.values())
    half = len(schema.tasks)
    return np.stack(columns[:half], 1), np.stack(columns[half:-1], 1).astype(np.float64), columns[-1]


def make(folder: Path, seed: int, kind: str, *, features: Path | None = None) -> None:
    """The log and the features (or where they lie already) of the town of this seed with this change, in `folder`."""
    folder.mkdir()
    plain = yaml.safe_load((ROOT / "params.yaml").read_text())
    change = {"kind": kind, "from_day": PLANTED, "scenario": OF_ORDERS if kind == "conversion" else SCENARIO}
    plain["dataset"]["simulation"] |= {**SIZE, "seed": seed, "shift": change}
    (folder / "params.yaml").write_text(yaml.safe_dump(plain))
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        ingest(schema=Path("schema.json"), out=Path("ingested"), truth=Path("truth"))
        if features is None:
            aggregate(schema=Path("schema.json"), validated=Path("ingested"), out=Path("features"))
        else:
            Path("features").symlink_to(features)


def join(
    folder: Path,
    schema: Schema,
    views: tuple[View, ...],
    name: str,
    days: tuple[int, int],
    behind: timedelta = timedelta(0),
) -> Path:
    """Write `name`.parquet: the impressions of some days, features as of (`behind`) their moment, by an ASOF join."""
    start = params.load(folder / "params.yaml").dataset.simulation.start
    asked = [f"ingested/events/day={start + timedelta(days=day)}/part-0.parquet" for day in range(*days)]
    events = f"read_parquet({[(folder / path).as_posix() for path in asked]}, hive_partitioning = false)"
    joins = " ".join(
        f"asof left join read_parquet('{(folder / 'features' / view.name).as_posix()}.parquet') as {view.name} on "
        + " and ".join(f"events.{key} = {view.name}.{key}" for key in view.keys)
        + f" and events.{schema.timestamp} - interval '{behind.days} days' >= {view.name}.{EVENT_TIMESTAMP}"
        for view in views
    )
    columns = ", ".join(f'{view.name}."{column.name}"' for view in views for column in view.columns)
    path = folder / f"{name}.parquet"
    duckdb.sql(f"copy (select events.*, {columns} from {events} as events {joins}) to '{path.as_posix()}'")
    return path


def report(world: World, kind: str, folder: Path, behind: timedelta = timedelta(0)) -> dict[str, Any]:
    """The drift report on the last two days of the log in `folder`, with this kind of change."""
    window = join(folder, world.schema, world.views, "window", JUDGED, behind)
    predicted, labels, scenario = told(window, world.schema, folder if kind in OTHER_ROWS else world.folder)
    edges = {cell: held["edges"] for cell, held in world.scores.items()}
    scores = score_cells(predicted, labels, scenario, world.schema, edges)
    current = count_histograms(window, world.schema, world.encoder, world.reference.bins)
    assert current.first_day - world.reference.first_day == timedelta(days=PLANTED - 1)
    limits = params.load(world.folder / "params.yaml").drift
    comparison = Comparison(world.reference, current, fewest=limits.fewest_rows)
    sections = {
        "mix": comparison.mix(world.schema),
        "columns": comparison.columns(world.schema, {}),
        "labels": list(comparison.labels(world.schema)),
        "scores": list(compare_scores(world.scores, scores)),
        "performance": list(compare_auc(predicted, labels, scenario, world.schema, world.scores)),
    }
    return evaluate(sections, limits)


def outcome(seed: int, kind: str, report: dict[str, Any]) -> dict[str, Any]:
    """What of the report is kept: its verdict, where the planted change stands in it, and the sentences."""
    findings = report["findings"]
    place = next((place for place, one in enumerate(findings, start=1) if kind in SOUGHT and SOUGHT[kind](one)), None)
    level = None if place is None else findings[place - 1]["verdict"]
    return {
        "seed": seed,
        "kind": kind,
        "verdict": report["verdict"],
        "place": place,
        "level": level,
        "findings": [f"{one['verdict']}: {one['sentence']}" for one in findings[:5]],
    }


def show(runs: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("planted", "towns", "act", "watch", "ok", "named", "named first", title="drift reports")
    for kind in EVERY:
        if not (own := [run for run in runs if run["kind"] == kind]):
            continue
        levels = (sum(run["verdict"] == level for run in own) for level in ("act", "watch", "ok"))
        named = (sum(run["place"] is not None for run in own), sum(run["place"] == 1 for run in own))
        table.add_row(kind, str(len(own)), *map(str, levels), *(("", "") if kind in QUIET else map(str, named)))
    Console(width=100).print(table)


if __name__ == "__main__":
    stage.run(drift)
