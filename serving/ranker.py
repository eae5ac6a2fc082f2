"""The model path: feature rows -> encoder -> network -> probabilities -> ranking."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from features.encode import UNKNOWN, Batch
from features.schema import Column, Kind, Role
from features.store.definitions import open_store
from models.folder import Model, read_model
from serving.online import OnlineFeatures
from serving.ranked import ENCODE, FEATURES, MODEL, Ranked
from serving.request import RankRequest
from serving.served import Scored, ServedLog


class Ranker:
    """Ranks items for a user in a scenario with one model; `log` keeps what was seen and said."""

    def __init__(self, model: Model, features: OnlineFeatures, log: ServedLog | None = None) -> None:
        self.model, self.features, self.log = model, features, log

    def rank(self, request: RankRequest) -> Ranked:
        """The items of `request` by its objective, descending; ties stay in the order of the request."""
        clock = [time.perf_counter()]
        rows = self.features.rows(request.user_id, request.scenario, request.candidates, request.context)
        clock.append(time.perf_counter())
        batch = self.model.encoder.encode(rows)
        clock.append(time.perf_counter())
        schema = self.model.schema
        found = probabilities(self.model.network, batch, [task.outputs for task in schema.tasks])  # [N, O]
        clock.append(time.perf_counter())
        self._keep(request, rows, found)
        scores = found @ np.array([request.objective.get(name, 0.0) for name in schema.output_names])  # [N]
        order = np.argsort(-scores, kind="stable")
        unknown = self._unknown(batch, schema.item)
        return Ranked(
            items=[request.candidates[place] for place in order],
            scores=scores[order],
            probabilities=dict(zip(schema.output_names, found[order].T, strict=True)),
            unknown_user=bool(self._unknown(batch, schema.user)[0]),
            unknown_items=[item for item, is_unknown in zip(request.candidates, unknown, strict=True) if is_unknown],
            model=self.model.tag,
            data_date=None,
            considered=len(request.candidates),
            seconds=dict(zip((FEATURES, ENCODE, MODEL), np.diff(clock).tolist(), strict=True)),
        )

    def _keep(self, request: RankRequest, rows: pa.Table, found: NDArray[np.float64]) -> None:
        if self.log is None:
            return
        schema = self.model.schema
        keys = {schema.user: request.user_id, schema.scenario: request.scenario, schema.item: request.candidates}
        self.log.add(
            Scored(rows=rows, keys=keys, outputs=schema.output_names, probabilities=found, model=self.model.tag)
        )

    def _unknown(self, batch: Batch, name: str) -> NDArray[np.bool_]:
        """Which rows read the unknown row of this id [N]; none where the model reads no ids at all."""
        names = [column.name for column in self.model.encoder.columns if column.kind is Kind.CATEGORICAL]
        if name not in names:
            return np.zeros(len(batch.scenario), np.bool_)
        return batch.categorical[:, names.index(name)] == UNKNOWN


def probabilities(network: nn.Module, batch: Batch, outputs: Sequence[int]) -> NDArray[np.float64]:
    """Probability of each task, or of each class of a task of several `outputs`, for encoded rows [N, O].

    The logits are float32, their sigmoid or softmax is float64.
    """
    inputs = (torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario))
    with torch.inference_mode():
        logits: torch.Tensor = network(*inputs)
    if max(outputs) == 1:
        return logits.double().sigmoid().numpy()
    parts = logits.double().split(list(outputs), dim=1)
    return torch.cat([p.sigmoid() if p.shape[1] == 1 else p.softmax(dim=1) for p in parts], dim=1).numpy()


def open_ranker(folder: Path, online: Path, registry: Path) -> Ranker:
    """A ranker with the model in `folder` and the features in the SQLite file `online`; raises ModelError.

    `registry` is a file of this process's own, for Feast's definitions. Sets this process to one torch thread: a
    request is too small for two, and they fight with whatever else runs.
    """
    torch.set_num_threads(1)
    model = read_model(folder)
    store = open_store(model.schema, model.views, features=online.parent, online=online, registry=registry)
    return Ranker(model, OnlineFeatures(store, model.schema, model.views, columns_read(model)))


def columns_read(model: Model) -> tuple[Column, ...]:
    """The columns that the model's encoder reads: its inputs, and the scenario in any case."""
    scenario = (column for column in model.schema.by_role(Role.SCENARIO) if column not in model.encoder.columns)
    return (*model.encoder.columns, *scenario)
