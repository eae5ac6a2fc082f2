"""Challenger and champion on the same rows, each by its own encoder: the metrics that the promotion policy compares."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import ndtri

from common.errors import ReleaseError
from common.stored_files import read_batches, read_schema, read_table
from features.encoding.histograms import Histograms
from features.encoding.tensors import BATCH_ROWS, Tensors, labels_of
from features.engine.arrow_types import arrow_schema
from features.schema import Schema, Task, TaskKind, output_slices
from models.evaluation import accuracy
from models.evaluation.accuracy import Interval
from models.evaluation.delong import Estimate, estimate_cells, mean_estimate
from models.evaluation.predict import predict_calibrated
from models.model_folder import REFERENCE, Model, last_day
from release.policy import Cell, ChallengerMetrics

ANEW = (
    "`python -m release.promote --new-schema` compares the challenger with chance instead, once; for another log give "
    "another folder by --releases"
)


class NotComparableError(ReleaseError):
    """Champion and challenger cannot score the same rows: other scenarios, tasks or columns."""


def compare(
    challenger: Model, champion: Model | None, rows: Path, confidence: float, *, since: date | None = None
) -> ChallengerMetrics:
    """The metrics of `challenger` on the Parquet file `rows` of the training set, beside those of `champion`, if any.

    Rows before the day `since` (UTC) do not count. Raises NotComparableError where the two cannot score these rows,
    ReleaseError where there are too few.
    """
    if champion is not None:
        _check_comparable(challenger, champion, rows)
    schema, labelled = challenger.schema, LabelledRows(challenger.schema, rows, since)
    logits = labelled.select(score(challenger, rows))
    ours = labelled.estimate(logits)
    theirs = ours if champion is None else labelled.estimate(labelled.select(score(champion, rows)))
    if not ours:
        raise ReleaseError(f"{rows}: expected a cell with two rows of each class, found none; take more rows")
    overall, chance = mean_estimate(list(ours.values())), float(np.mean([labelled.chance(name) for name in ours]))
    gain = overall - mean_estimate(list(theirs.values())) if champion else _minus(overall, chance)
    return ChallengerMetrics(
        rows=len(labelled.scenario),
        mean=overall.value,
        champion=champion.tag if champion else None,
        chance=chance,
        gain=gain.interval(confidence),
        cells=tuple(_cells(ours, theirs if champion else None, confidence)),
        calibration=labelled.calibration(
            accuracy.probabilities_of(logits, schema.tasks, challenger.encoder.targets), confidence
        ),
        same=champion is not None and champion.weights_sha256 == challenger.weights_sha256,
    )


def first_unseen_day(challenger: Path, champion: Path) -> date | None:
    """The first day (UTC) that the champion was not trained on; None where both were trained on the same rows.

    Both are model folders. With a random split, a test row may be one of the champion's training rows, because the
    split differs as soon as the log has grown. Where both were trained on the same rows, no test row is among them.
    """
    reference, other = (Histograms.read(folder / REFERENCE) for folder in (challenger, champion))
    same = reference.first_day == other.first_day and np.array_equal(reference.rows, other.rows)
    return None if same else last_day(champion) + timedelta(days=1)


def score(model: Model, rows: Path) -> NDArray[Any]:
    """The logits [N, O] of the Parquet file `rows` by the model's own encoder, batch by batch; calibrated, if it is."""
    names = dict.fromkeys([model.schema.scenario, *(column.name for column in model.encoder.columns)])
    batches = read_batches(rows, BATCH_ROWS, list(names))
    outputs = len(model.schema.output_names)
    parts = [_score(model, pa.Table.from_batches([batch])) for batch in batches]
    return np.concatenate(parts or [np.empty((0, outputs), np.float32)])


class LabelledRows:
    """The labels [N, T], scenarios [N] and choice sets [N] of a Parquet file of the training set.

    Only of its rows from the day `since` (UTC) on; raises ReleaseError where there are none.
    """

    def __init__(self, schema: Schema, rows: Path, since: date | None = None) -> None:
        self.schema = schema
        names = (schema.scenario, *schema.task_names, *filter(None, [schema.choice_set, schema.weight]))
        table = read_table(rows, list(names))
        self.selected = np.ones(table.num_rows, bool) if since is None else _from_day(rows, schema, since)
        table = table.filter(pa.array(self.selected))
        labels = [labels_of(task, table[task.name]) for task in schema.tasks]
        self.labels = np.stack(labels, axis=1)
        codes = pc.index_in(table[schema.scenario], value_set=pa.array(schema.scenarios))
        self.scenario = codes.fill_null(-1).to_numpy()
        self.choice_set = None if schema.choice_set is None else _codes(table[schema.choice_set])
        self.weight = np.ones(len(table)) if schema.weight is None else table[schema.weight].to_numpy().astype(float)

    def select(self, logits: NDArray[Any]) -> NDArray[Any]:
        """The logits [N, O] of the selected rows, out of those of all rows of the file."""
        return logits[self.selected]

    def estimate(self, logits: NDArray[Any]) -> dict[str, Estimate]:
        """The metric of every cell with enough labels, by "scenario/task"."""
        schema = self.schema
        return estimate_cells(
            self.labels,
            logits,
            self.scenario,
            schema.tasks,
            scenarios=schema.scenarios,
            choice_set=self.choice_set,
            weight=None if schema.weight is None else self.weight,
        )

    def chance(self, cell: str) -> float:
        """The metric of a model without any knowledge on the rows of a cell."""
        task, labels, indices = self._cell(cell)
        if task.kind is TaskKind.MULTI_CLASS:
            shares = np.bincount(labels.astype(np.int64), weights=self.weight[indices])
            return float(shares.max() / shares.sum())
        if task.kind is TaskKind.CHOICE and self.choice_set is not None:
            return accuracy.chance_hit_rate(labels, self.choice_set[indices]) or 0.0
        return 0.5

    def calibration(self, probabilities: NDArray[np.float64], confidence: float) -> dict[str, Interval]:
        """Predicted over observed of every cell with a positive, by class where there are several [N, O].

        Each row counts as its weight: a model that was trained on weighted rows predicts the rates of these. Of a
        regression it is the sum of the expected values over that of the labels, where none of these is negative.
        """
        ratios: dict[str, Interval] = {}
        for task, outputs in zip(self.schema.tasks, output_slices(self.schema.tasks), strict=True):
            for scenario in self.schema.scenarios:
                _, labels, indices = self._cell(f"{scenario}/{task.name}")
                if task.kind is TaskKind.REGRESSION:
                    expected = probabilities[indices, outputs][:, 0]
                    ratio = _ratio_of_sums(expected, labels, self.weight[indices], confidence)
                    ratios |= {f"{scenario}/{task.name}": ratio} if ratio else {}
                    continue
                for number, name in enumerate(task.output_names):
                    positive = labels == (1 if task.classes is None else number)
                    predicted = probabilities[indices, outputs][:, number]
                    ratio = _ratio(predicted, positive, self.weight[indices], confidence)
                    ratios |= {f"{scenario}/{name}": ratio} if ratio else {}
        return ratios

    def _cell(self, cell: str) -> tuple[Task, NDArray[Any], NDArray[np.int64]]:
        """The task of a cell, its labels [K] and the indices of its rows [K]."""
        scenario, task = self.schema.cells[cell]
        column = self.schema.tasks.index(task)
        inside = self.scenario == self.schema.scenarios.index(scenario)
        indices = np.flatnonzero(inside & ~np.isnan(self.labels[:, column]))
        return task, self.labels[indices, column], indices


def _from_day(rows: Path, schema: Schema, since: date) -> NDArray[np.bool_]:
    """Which rows are of the day `since` (UTC) or later [N]; raises ReleaseError where none is."""
    timestamps = read_table(rows, [schema.timestamp])[schema.timestamp].to_numpy()
    selected: NDArray[np.bool_] = timestamps >= np.datetime64(since, "us")
    if len(timestamps) and not selected.any():
        raise ReleaseError(
            f"{rows}: expected rows from {since} on, which the champion was not trained on, "
            f"found none later than {timestamps.max()}; wait for newer rows, or go back to a champion "
            "that was trained on fewer days"
        )
    return selected


def _check_comparable(challenger: Model, champion: Model, rows: Path) -> None:
    """Reject a champion of another log: with other scenarios or tasks, or columns that the rows do not have."""
    schema, other = challenger.schema, champion.schema
    if (schema.scenarios, schema.tasks) != (other.scenarios, other.tasks):
        raise NotComparableError(
            f"the champion {champion.tag} ranks {other.task_names} in {other.scenarios}, the "
            f"challenger {challenger.tag} {schema.task_names} in {schema.scenarios}: they cannot be "
            f"compared; {ANEW}"
        )
    present, expected = read_schema(rows), arrow_schema(champion.encoder.columns)
    present = pa.schema([field for field in present if field.name in expected.names])
    differing = [field.name for field in expected if field.name not in present.names]
    differing += [field.name for field in present if field.type != expected.field(field.name).type]
    if differing:
        raise NotComparableError(
            f"the champion {champion.tag} reads the columns {differing}, which {rows} does not have, or has with "
            f"another type: the two cannot be compared; {ANEW}"
        )


def _score(model: Model, rows: pa.Table) -> NDArray[Any]:
    labels, ids = np.empty((rows.num_rows, len(model.schema.tasks)), np.float32), np.empty(0, np.int64)
    encoded = Tensors(**vars(model.encoder.encode(rows)), labels=labels, event_id=ids, user=ids)
    return predict_calibrated(model, encoded, silent=True)


def _cells(ours: dict[str, Estimate], theirs: dict[str, Estimate] | None, confidence: float) -> list[Cell]:
    if theirs is None:
        return [Cell(name=name, challenger=estimate.value) for name, estimate in ours.items()]
    return [
        Cell(
            name=name,
            challenger=ours[name].value,
            champion=theirs[name].value,
            gain=(ours[name] - theirs[name]).interval(confidence),
        )
        for name in ours
    ]


def _minus(estimate: Estimate, constant: float) -> Estimate:
    return Estimate(value=estimate.value - constant, rows=estimate.rows, influence=estimate.influence)


def _ratio(
    predicted: NDArray[np.float64], positive: NDArray[np.bool_], weight: NDArray[np.float64], confidence: float
) -> Interval | None:
    """Predicted over observed [K], with its interval by the number of positives, on a logarithmic scale.

    Weighted rows are as many as rows of equal weight with the same variance (L. Kish, Survey Sampling, 1965).
    """
    if not (positive & (weight > 0)).any():
        return None
    value = float((weight * predicted).sum() / weight[positive].sum())
    rate, positives = weight[positive].sum() / weight.sum(), _effective(weight[positive])
    factor = float(np.exp(ndtri(0.5 + confidence / 2) * np.sqrt((1 - rate) / positives)))
    return Interval(value=value, low=value / factor, high=value * factor)


def _ratio_of_sums(
    expected: NDArray[np.float64], labels: NDArray[Any], weight: NDArray[np.float64], confidence: float
) -> Interval | None:
    """Expected over observed [K], with its interval by the delta method, on a logarithmic scale."""
    total = float((weight * labels).sum())
    value = float((weight * expected).sum()) / total if total > 0 else 0.0
    if not value > 0 or labels.min() < 0:
        return None
    deviation = np.sqrt(((weight * (expected - value * labels)) ** 2).sum()) / (total * value)
    factor = float(np.exp(ndtri(0.5 + confidence / 2) * deviation))
    return Interval(value=value, low=value / factor, high=value * factor)


def _effective(weight: NDArray[np.float64]) -> float:
    """The number of rows of equal weight whose mean has the same variance as that of rows of these weights."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _codes(values: pa.ChunkedArray) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = values.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes
