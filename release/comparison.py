"""Challenger and champion on the same rows, each by its own encoder: the figures that the gate judges."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import ndtri

from common.errors import ReleaseError
from features.encoding.histograms import Histograms
from features.encoding.tensors import BATCH_ROWS, Tensors, labels_of
from features.schema import Schema, Task, TaskKind, places
from models.evaluation import accuracy
from models.evaluation.accuracy import Interval
from models.evaluation.delong import Estimate, estimate_cells, mean
from models.evaluation.predict import predict
from models.model_folder import REFERENCE, Model
from release.policy import Cell, Figures


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where everything lies that a challenger is held against; `moment` (UTC) is that up to which `online` was filled.

    `moment` None: up to the newest snapshot.
    """

    challenger: Path
    bento: Path
    online: Path
    encoder: Path
    features: Path
    training: Path
    tensors: Path
    moment: datetime | None = None

    @property
    def rows(self) -> Path:
        """The rows of the newest window."""
        return self.training / "test.parquet"

    @property
    def packed(self) -> Path:
        """The model in the bento."""
        return self.bento / "src" / "artifacts" / "models" / "hinet"


def compare(
    challenger: Model, champion: Model | None, rows: Path, confidence: float, *, since: date | None = None
) -> Figures:
    """What `challenger` came to on the Parquet file `rows` of the training set, and `champion`, if there is one.

    Rows before the day `since` (UTC) do not count. Raises ReleaseError where the two cannot be compared on these rows.
    """
    if champion is not None:
        _check(challenger, champion, rows)
    schema, truth = challenger.schema, Truth(challenger.schema, rows, since)
    said = truth.of(score(challenger, rows))
    ours = truth.estimate(said)
    theirs = ours if champion is None else truth.estimate(truth.of(score(champion, rows)))
    if not ours:
        raise ReleaseError(f"{rows}: no cell has two rows of each class, so that nothing can be judged; take more rows")
    overall, chance = mean(list(ours.values())), float(np.mean([truth.chance(name) for name in ours]))
    gain = overall - mean(list(theirs.values())) if champion else _above(overall, chance)
    return Figures(
        rows=len(truth.scenario),
        mean=overall.value,
        champion=champion.tag if champion else None,
        chance=chance,
        gain=gain.interval(confidence),
        cells=tuple(_cells(ours, theirs if champion else None, confidence)),
        calibration=truth.calibration(accuracy.probabilities_of(said, schema.tasks), confidence),
        same=champion is not None and champion.tag == challenger.tag,
    )


def unseen(challenger: Path, champion: Path) -> date | None:
    """The first day (UTC) of which the champion learnt nothing; None where both learnt from the same rows.

    Both are model folders. Where rows are drawn at random, a test row may be one of the champion's training rows: the
    draw is another one as soon as the log has grown. Both from the same rows: then no test row is one of either's.
    """
    ours, theirs = (Histograms.read(folder / REFERENCE) for folder in (challenger, champion))
    same = ours.first_day == theirs.first_day and np.array_equal(ours.rows, theirs.rows)
    return None if same else theirs.last_day + timedelta(days=1)


def score(model: Model, rows: Path) -> NDArray[np.float32]:
    """The logits [N, O] of the Parquet file `rows` by the model's own encoder, batch by batch."""
    names = dict.fromkeys([model.schema.scenario, *(column.name for column in model.encoder.columns)])
    batches = pq.ParquetFile(rows).iter_batches(BATCH_ROWS, columns=list(names))
    outputs = len(model.schema.output_names)
    parts = [_score(model, pa.Table.from_batches([batch])) for batch in batches]
    return np.concatenate(parts or [np.empty((0, outputs), np.float32)])


class Truth:
    """What happened in the rows of a Parquet file of the training set: labels [N, T], scenario [N], choice_set [N].

    Of its rows those from the day `since` (UTC) on; raises ReleaseError where there are none.
    """

    def __init__(self, schema: Schema, rows: Path, since: date | None = None) -> None:
        self.schema = schema
        wanted = (schema.scenario, *schema.task_names, *filter(None, [schema.choice_set]))
        table = pq.read_table(rows, columns=list(wanted))
        self.kept = np.ones(table.num_rows, bool) if since is None else _from_day(rows, schema, since)
        table = table.filter(pa.array(self.kept))
        labels = [labels_of(task, table[task.name]) for task in schema.tasks]
        self.labels = np.stack(labels, axis=1)
        codes = pc.index_in(table[schema.scenario], value_set=pa.array(schema.scenarios))
        self.scenario = codes.fill_null(-1).to_numpy()
        self.choice_set = None if schema.choice_set is None else _codes(table[schema.choice_set])

    def of(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the logits of all rows of the file those of its rows that count [N, O]."""
        return logits[self.kept]

    def estimate(self, logits: NDArray[np.float32]) -> dict[str, Estimate]:
        """The metric of every cell that can be judged, by "scenario/task"."""
        schema = self.schema
        return estimate_cells(
            self.labels, logits, self.scenario, schema.tasks, scenarios=schema.scenarios, choice_set=self.choice_set
        )

    def chance(self, cell: str) -> float:
        """The metric of who knows nothing of the rows of the cell."""
        task, labels, kept = self._cell(cell)
        if task.kind is TaskKind.MULTI_CLASS:
            return float(np.bincount(labels.astype(np.int64)).max() / len(labels))
        if task.kind is TaskKind.CHOICE and self.choice_set is not None:
            return accuracy.chance(labels, self.choice_set[kept]) or 0.0
        return 0.5

    def calibration(self, probabilities: NDArray[np.float64], confidence: float) -> dict[str, Interval]:
        """Predicted over observed of every cell with a positive, by class where there are several [N, O]."""
        found: dict[str, Interval] = {}
        for task, place in zip(self.schema.tasks, places(self.schema.tasks), strict=True):
            for scenario in self.schema.scenarios:
                _, labels, kept = self._cell(f"{scenario}/{task.name}")
                for number, name in enumerate(task.output_names):
                    happened = labels == (1 if task.classes is None else number)
                    ratio = _ratio(probabilities[kept, place][:, number], happened, confidence)
                    found |= {f"{scenario}/{name}": ratio} if ratio else {}
        return found

    def _cell(self, cell: str) -> tuple[Task, NDArray[Any], NDArray[np.int64]]:
        """The task of a cell, its labels [K] and the places of its rows [K]."""
        scenario, name = cell.rsplit("/", 1)
        column = self.schema.task_names.index(name)
        inside = self.scenario == self.schema.scenarios.index(scenario)
        kept = np.flatnonzero(inside & ~np.isnan(self.labels[:, column]))
        return self.schema.tasks[column], self.labels[kept, column], kept


def _from_day(rows: Path, schema: Schema, since: date) -> NDArray[np.bool_]:
    """Which rows are of the day `since` (UTC) or later [N]; raises ReleaseError where none is."""
    moments = pq.read_table(rows, columns=[schema.timestamp])[schema.timestamp].to_numpy()
    kept: NDArray[np.bool_] = moments >= np.datetime64(since, "us")
    if len(moments) and not kept.any():
        raise ReleaseError(
            f"{rows}: expected rows from {since} on, of which the champion has learnt nothing, "
            f"found none later than {moments.max()}; wait for newer rows, or go back to a champion "
            "that was trained on fewer days"
        )
    return kept


def _check(challenger: Model, champion: Model, rows: Path) -> None:
    """Refuse a champion of another log: of other scenarios or tasks, or that reads columns that there are no more."""
    ours, theirs = challenger.schema, champion.schema
    if (ours.scenarios, ours.tasks) != (theirs.scenarios, theirs.tasks):
        raise ReleaseError(
            f"the champion {champion.tag} ranks {theirs.task_names} in {theirs.scenarios}, the "
            f"challenger {challenger.tag} {ours.task_names} in {ours.scenarios}: they cannot be "
            "compared; give another folder by --releases for another log"
        )
    held = set(pq.read_schema(rows).names)
    lost = [column.name for column in champion.encoder.columns if column.name not in held]
    if lost:
        raise ReleaseError(
            f"the champion {champion.tag} reads the columns {lost}, which {rows} has no more: the two "
            "cannot be compared; give another folder by --releases to begin anew"
        )


def _score(model: Model, rows: pa.Table) -> NDArray[np.float32]:
    nothing = np.empty((rows.num_rows, len(model.schema.tasks)), np.float32)
    encoded = Tensors(**vars(model.encoder.encode(rows)), labels=nothing, event_id=np.empty(0), user=np.empty(0))
    return predict(model.network, encoded, model.name, silent=True)


def _cells(ours: dict[str, Estimate], theirs: dict[str, Estimate] | None, confidence: float) -> list[Cell]:
    if theirs is None:
        return [Cell(name=name, challenger=found.value) for name, found in ours.items()]
    return [
        Cell(
            name=name,
            challenger=ours[name].value,
            champion=theirs[name].value,
            gain=(ours[name] - theirs[name]).interval(confidence),
        )
        for name in ours
    ]


def _above(found: Estimate, level: float) -> Estimate:
    return Estimate(value=found.value - level, places=found.places, influence=found.influence)


def _ratio(predicted: NDArray[np.float64], happened: NDArray[np.bool_], confidence: float) -> Interval | None:
    """Predicted over observed, with the interval that the number of positives leaves, on the scale of its logarithm."""
    positives, rows = int(happened.sum()), len(happened)
    if not positives:
        return None
    value = float(predicted.sum() / positives)
    reach = float(np.exp(ndtri(0.5 + confidence / 2) * np.sqrt((1 - positives / rows) / positives)))
    return Interval(value=value, low=value / reach, high=value * reach)


def _codes(values: pa.ChunkedArray) -> NDArray[np.int64]:
    return values.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
