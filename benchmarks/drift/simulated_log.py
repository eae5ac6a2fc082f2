"""A simulated log with its features, encoder and reference, and the drift report on its last days.

The log has 21 days: the first 17 are the reference, the last two (a weekend) the window, in which a shift is planted.
A young log has ten: the first eight are the reference, the last one is the window. The features are those of the
pipeline (impression, profiles, statistics as of the impression). The model is the best possible one: it returns the
true probabilities of the simulation before the shift, on the days between (the validation rows) and in the window. It
knows new items from the start.
"""

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from common import params
from common.files import replacing
from common.paths import PARAMS, ROOT
from common.yaml_file import dump_yaml, read_yaml
from features.aggregate import aggregate
from features.datasets.log import TRUE
from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.encoding.histograms import Histograms
from features.ingest import ingest
from features.schema import EVENT_TIMESTAMP, Schema, View, inputs, read_schema, read_views
from models.evaluation.reference_profile import score_cells
from monitoring.detection.comparison import compare_windows
from monitoring.detection.score_shift import compare_auc, compare_scores
from monitoring.detection.verdict import evaluate

SCENARIO = "channel"  # of a shift in one scenario
ORDER_SCENARIO = "search"  # of a shift of orders: channel has some 25 in the window, too few to detect a fall

Days = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The size of a log, and its days.

    Args:
        size: impressions, users, items and days of the simulation.
        trained: days of the reference, from the first one on.
        shifted: number of the first day of the window, counted from 1; the days between are the validation rows.
        even: every item is shown equally often: its counters hardly vary, so that they leave the range of earlier days.
    """

    size: dict[str, int]
    trained: int
    shifted: int
    even: bool = False

    @property
    def valid(self) -> Days:
        """First day and end of the validation rows, counted from 0."""
        return self.trained, self.shifted - 1

    @property
    def window(self) -> Days:
        """First day and end of the window, counted from 0."""
        return self.shifted - 1, self.size["days"]


MATURE = Layout(size={"impressions": 200_000, "users": 8_000, "items": 2_000, "days": 21}, trained=17, shifted=20)
YOUNG_SIZE = {"impressions": 25_000, "days": 10}
YOUNG = {  # logs of ten days without a shift
    "young": Layout(size=YOUNG_SIZE | {"users": 600, "items": 150}, trained=8, shifted=10),
    "young-many-users": Layout(size=YOUNG_SIZE | {"users": 12_000, "items": 3_000}, trained=8, shifted=10),
    "young-even-items": Layout(size=YOUNG_SIZE | {"users": 600, "items": 150}, trained=8, shifted=10, even=True),
}


@dataclass(frozen=True)
class SimulatedLog:
    """A simulated log in `folder`, its encoder, its reference, and the score profile of the validation rows by cell."""

    folder: Path
    schema: Schema
    views: tuple[View, ...]
    encoder: Encoder
    reference: Histograms
    scores: dict[str, Any]
    layout: Layout

    def report(self, shifted: Path, truth: Path, delay: timedelta = timedelta(0)) -> dict[str, Any]:
        """The drift report on the window of the log in `shifted`, with the true probabilities in `truth`.

        The features are those of `delay` before each impression.
        """
        window = join(shifted, self.schema, self.views, "window", self.layout.window, delay=delay)
        predicted, labels, scenario = labelled(window, self.schema, truth)
        edges = {cell: profile["edges"] for cell, profile in self.scores.items()}
        scores = score_cells(predicted, labels, scenario, self.schema, edges)
        current = count_histograms(window, self.schema, self.encoder, self.reference.bins)
        assert current.first_day - self.reference.first_day == timedelta(days=self.layout.shifted - 1)
        limits = params.load(self.folder / PARAMS).drift
        sections = {
            **compare_windows(self.reference, current, self.schema, limits, views=self.views),
            "scores": list(compare_scores(self.scores, scores, self.schema)),
            "performance": list(compare_auc(predicted, labels, scenario, self.schema, self.scores)),
        }
        return evaluate(sections, limits)


def simulate(folder: Path, seed: int, kind: str, layout: Layout = MATURE) -> SimulatedLog:
    """The log of this seed and kind of shift in `folder`, with encoder, reference and score profile."""
    write_log(folder, seed, kind, layout=layout)
    schema, views = read_schema(folder / "schema.json"), read_views(folder / "features" / "views.json")
    train = join(folder, schema, views, "train", (0, layout.trained))
    encode = params.load(folder / PARAMS).encode
    encoder = fit_encoder(schema, inputs(schema, views), train, encode.minimum_count, **encode.tables)
    scores = score_cells(*labelled(join(folder, schema, views, "valid", layout.valid), schema, folder), schema)
    return SimulatedLog(folder, schema, views, encoder, fit_reference(train, schema, encoder), scores, layout)


def labelled(rows: Path, schema: Schema, folder: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The true probabilities of rows by the log in `folder` [N, T], their labels [N, T] and scenario codes [N]."""
    truth = (folder / "truth" / "truth.parquet").as_posix()
    true, labels = ([f'"{prefix}{task}"' for task in schema.task_names] for prefix in (TRUE, ""))
    result = duckdb.sql(
        f"select {', '.join((*true, *labels))}, list_position({list(schema.scenarios)}, {schema.scenario}) - 1 as code "
        f"from '{rows.as_posix()}' join '{truth}' using ({schema.event_id})"
    ).fetchnumpy()
    columns = [np.asarray(column) for column in result.values()]
    half = len(schema.tasks)
    return np.stack(columns[:half], 1), np.stack(columns[half:-1], 1).astype(np.float64), columns[-1]


def write_log(folder: Path, seed: int, kind: str, *, layout: Layout = MATURE, features: Path | None = None) -> None:
    """Write the log of this seed and kind of shift to `folder`, and its features, unless `features` has them."""
    folder.mkdir()
    document = read_yaml(ROOT / PARAMS)
    shift = {"kind": kind, "from_day": layout.shifted, "scenario": ORDER_SCENARIO if kind == "conversion" else SCENARIO}
    document["dataset"]["simulation"] |= {**layout.size, "seed": seed, "shift": shift}
    (folder / PARAMS).write_text(dump_yaml(document), encoding="utf-8")
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        ingest(schema=Path("schema.json"), out=Path("ingested"), truth=Path("truth"))
        if layout.even:
            _show_evenly(Path("ingested"), layout.size["items"])
        if features is None:
            aggregate(schema=Path("schema.json"), validated=Path("ingested"), out=Path("features"))
        else:
            Path("features").symlink_to(features)


def _show_evenly(ingested: Path, items: int) -> None:
    """Give every impression another item, all of them equally often; everything else stays."""
    for path in sorted(ingested.glob("events/*/*.parquet")):
        with replacing(path) as partial:
            duckdb.sql(
                f"copy (select * replace ((1 + hash(event_id) % {items})::bigint as item_id) from '{path.as_posix()}' "
                f"order by event_id) to '{Path(partial).as_posix()}' (format parquet)"
            )


def join(
    folder: Path, schema: Schema, views: tuple[View, ...], name: str, days: Days, *, delay: timedelta = timedelta(0)
) -> Path:
    """Write `name`.parquet: impressions of a log with their features, by an ASOF join; returns its path.

    Args:
        folder: Folder of the log.
        schema: Declaration of the data set.
        views: The views of the features.
        name: Name of the file.
        days: First day and end of the impressions, counted from 0.
        delay: Age of the newest features, in whole days.
    """
    start = params.load(folder / PARAMS).dataset.simulation.start
    paths = [f"ingested/events/day={start + timedelta(days=day)}/part-0.parquet" for day in range(*days)]
    events = f"read_parquet({[(folder / path).as_posix() for path in paths]}, hive_partitioning = false)"
    joins = " ".join(
        f"asof left join read_parquet('{(folder / 'features' / view.name).as_posix()}.parquet') as {view.name} on "
        + " and ".join(f"events.{key} = {view.name}.{key}" for key in view.keys)
        + f" and events.{schema.timestamp} - interval '{delay.days} days' >= {view.name}.{EVENT_TIMESTAMP}"
        for view in views
    )
    columns = ", ".join(f'{view.name}."{column.name}"' for view in views for column in view.columns)
    path = folder / f"{name}.parquet"
    duckdb.sql(f"copy (select events.*, {columns} from {events} as events {joins}) to '{path.as_posix()}'")
    return path
