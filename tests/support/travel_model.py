"""The travel log as tensors, and a small HiNet fitted to them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from common import params
from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.tensors import open_tensors, write_tensors
from features.engine.arrow_types import arrow_schema
from features.schema import inputs, to_json
from models.model_folder import build_network, write_model
from models.training.configuration import arguments_of
from models.training.curves import curves_of
from models.training.device import make_deterministic
from models.training.loop import fit
from models.training.loss import LossTerms
from models.training.optim import Recipe
from tests.support import travel_log, world

SCHEMA = travel_log.schema()
SMALL = {
    "sub_experts": 2,
    "expert_units": [32, 16],
    "task_experts": 1,
    "shared_experts": 1,
    "task_expert_units": [16],
    "tower_units": [16],
    "scenario_width": 4,
    "scenario_heads": False,
    "interactions": [],
    "scenario_view": [],
    "scenario_attention": True,
    "hierarchy": True,
}
RECIPE = Recipe(
    seed=1,
    epochs=9,
    patience=9,
    batch_size=512,
    learning_rate=0.006,
    embedding_weight_decay=0.0,
    weight_decay=0.0,
    average=0.99,
    unknown_share=0.0,
)
SPLITS = ("train", "valid", "test")


def as_arrow(frames: dict[str, pd.DataFrame]) -> dict[str, pa.Table]:
    """The tables as the schema stores them."""
    return {
        name: pa.Table.from_pandas(frame, arrow_schema(SCHEMA.tables[name]), preserve_index=False)
        for name, frame in frames.items()
    }


def write_tensors_of(folder: Path) -> pd.DataFrame:
    """Schema, views, encoder and tensors of 4000 trips to learn from, 2000 to choose by, 4000 to test by.

    Returns the truth of the test rows.
    """
    columns = inputs(SCHEMA, travel_log.views())
    stored = arrow_schema((*SCHEMA.events, *(column for view in travel_log.views() for column in view.columns)))
    (folder / "schema.json").write_text(to_json(SCHEMA))
    (folder / "views.json").write_text(to_json(travel_log.views()))
    world.write_params(folder)
    for seed, (split, trips) in enumerate(zip(SPLITS, (4000, 2000, 4000), strict=True), start=1):
        frames, truth = travel_log.tables(trips=trips, seed=seed)
        joined = frames["events"].merge(frames["users"]).merge(frames["items"]).sort_values("event_id")
        pq.write_table(pa.Table.from_pandas(joined, stored, preserve_index=False), folder / f"{split}.parquet")
        if split == "train":
            fit_encoder(SCHEMA, columns, folder / "train.parquet", 1).write(folder / "encoder.parquet")
        write_tensors(
            Encoder.read(folder / "encoder.parquet"), SCHEMA, folder / f"{split}.parquet", folder / "tensors" / split
        )
    return truth


def write_fitted(folder: Path) -> None:
    """A small HiNet, fitted, as a model folder; tasks with one label per trip have a larger weight."""
    settings = params.load().train
    small = settings.hinet.model_copy(update=SMALL)
    arguments = arguments_of(
        "hinet",
        Encoder.read(folder / "encoder.parquet").layout,
        SCHEMA.tasks,
        settings.model_copy(update={"hinet": small, "embedding_width": 8}),
    )
    make_deterministic(1)
    network = build_network("hinet", arguments)
    train, valid = (open_tensors(folder / "tensors" / split) for split in ("train", "valid"))
    fitted = fit(
        network,
        train,
        valid,
        RECIPE,
        scenarios=SCHEMA.scenarios,
        tasks=SCHEMA.tasks,
        device="cpu",
        terms=LossTerms(cell_weights=torch.tensor([[4.0, 4.0, 1.0, 1.0]] * 3)),
    )
    write_model(
        folder / "hinet",
        model_name="hinet",
        network=network,
        arguments=arguments,
        summary={},
        curves=curves_of(fitted, SCHEMA),
        profile={},
        reference=folder / "schema.json",
        **{name: folder / f"{name}.json" for name in ("schema", "views")},
        encoder=folder / "encoder.parquet",
    )
