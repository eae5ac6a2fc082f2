"""Scored impressions for tests of the log and of what reads it."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serving.ranking.ranker import Ranker
from serving.ranking.result import ScoredCandidates
from serving.telemetry.impression_log import ImpressionLog, Impressions

NOON = datetime(2026, 1, 12, 12)


def open_log(folder: Path, **changes: Any) -> ImpressionLog:
    """A log of every request, with changes."""
    return ImpressionLog(**{"folder": folder, "sample": 1.0, "rows_per_file": 1000, "seconds": 60.0} | changes)


def impressions(user: int = 1, items: tuple[int, ...] = (4, 1), scenario: str = "feed", hour: int = 3) -> Impressions:
    """A request of which the encoder reads nothing but the hour."""
    candidates = ScoredCandidates(
        rows=lambda: pa.table({"hour": [hour] * len(items)}),
        model="tag",
        outputs=("click", "order"),
        keys={"user_id": user, "scenario": scenario, "item_id": list(items)},
        probabilities=np.linspace(0.1, 0.2, 2 * len(items)).reshape(-1, 2),
    )
    return Impressions(candidates)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Every row of the log."""
    return [row for path in sorted(folder.rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]


def online_features(ranker: Ranker, entity: dict[str, Any]) -> dict[str, Any]:
    """Every feature of a user, in a scenario, and of an item, as Feast reads them from the online store."""
    features = [f"{view.name}:{column.name}" for view in ranker.loaded.model.views for column in view.columns]
    response = ranker.loaded.users.store.get_online_features(features=features, entity_rows=[entity]).to_dict()
    return {name: value for name, (value,) in response.items()} | entity
