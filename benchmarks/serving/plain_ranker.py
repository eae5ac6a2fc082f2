"""A ranker in the plainest code: a Feast row per item, the encoder, the network's forward, a sort."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from features.encoding.encoder import Batch
from features.engine.arrow_types import arrow_schema
from features.schema import View
from features.store.definitions import open_store
from models.model_folder import read_model


class PlainRanker:
    """Ranks with the model in `folder` and the SQLite store `online`; `registry` is a scratch file for Feast."""

    def __init__(self, folder: Path, online: Path, registry: Path) -> None:
        torch.set_num_threads(1)
        self.model = read_model(folder)
        schema, views = self.model.schema, self.model.views
        self.store = open_store(schema, views, features=online.parent, online=online, registry=registry)
        scenario = (c for c in schema.events if c.name == schema.scenario and c not in self.model.encoder.columns)
        self.types = arrow_schema((*self.model.encoder.columns, *scenario))
        self.features = [f"{view.name}:{name}" for view in views for name in _names(view) if name in self.types.names]

    def rank(self, user: Any, scenario: str, items: list[Any]) -> dict[str, Any]:
        """The items, best first."""
        logits, calibration = self.forward(self.encode(self.read(user, scenario, items))), self.model.calibration
        if calibration is not None:
            code = self.model.schema.scenarios.index(scenario)
            logits = torch.from_numpy(calibration.of_scenario(logits.numpy(), code))
        probabilities = logits.sigmoid()
        scores = probabilities.sum(dim=1)
        order = scores.argsort(descending=True)
        ranked = [items[index] for index in order.tolist()]
        by_output = dict(zip(self.model.schema.output_names, probabilities[order].T.tolist(), strict=True))
        return {"items": ranked, "scores": scores[order].tolist(), "probabilities": by_output}

    def read(self, user: Any, scenario: str, items: list[Any]) -> dict[str, list[Any]]:
        """All features of every row, by name."""
        schema = self.model.schema
        rows = [{schema.user: user, schema.scenario: scenario, schema.item: item} for item in items]
        return self.store.get_online_features(features=self.features, entity_rows=rows).to_dict()

    def encode(self, values: dict[str, list[Any]]) -> Batch:
        """The rows as tensors; a column without values is unknown."""
        count = len(next(iter(values.values())))
        columns = [pa.array(values.get(field.name, [None] * count), field.type) for field in self.types]
        return self.model.encoder.encode(pa.table(columns, schema=self.types))

    @torch.inference_mode()
    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, O]."""
        inputs = (torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario))
        logits: torch.Tensor = self.model.network(*inputs)
        return logits


def _names(view: View) -> list[str]:
    return [column.name for column in view.columns]
