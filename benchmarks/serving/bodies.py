"""Bodies of POST /rank for users and items that the model knows."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from features.schema import Schema
from models.model_folder import Model


def sample_requests(model: Model, candidates: int, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """`count` requests for `candidates` distinct items each; users, items and scenarios are drawn uniformly.

    A uniform draw is hard on every cache: no user comes often. If fewer items are known, all of them are candidates.
    """
    random, schema = np.random.default_rng(seed), model.schema
    users, items = (vocabulary(model, name) for name in (schema.user, schema.item))
    return [
        {
            "user_id": users[random.integers(len(users))],
            "scenario": schema.scenarios[random.integers(len(schema.scenarios))],
            "candidates": [items[index] for index in random.permutation(len(items))[:candidates]],
        }
        for _ in range(count)
    ]


def write_bodies(path: Path, requests: list[dict[str, Any]]) -> Path:
    """Write a JSON body per line to `path`; returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(request) + b"\n" for request in requests))
    return path


def vocabulary(model: Model, name: str) -> list[Any]:
    """The ids of users or of items that the encoder knows."""
    return list(model.encoder.vocabularies[_vocabulary_of(model.schema, name)])


def _vocabulary_of(schema: Schema, name: str) -> str:
    return next(column.vocabulary for column in schema.events if column.name == name)
