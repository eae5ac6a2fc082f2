"""The protocols of the accuracy benchmark: each data set as a folder of encoded rows.

MovieLens-1M is read, split and encoded exactly by its published protocol, without the pipeline. The others are written
by the stages of dvc.yaml, run in a temporary folder.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

from common.errors import ParameterError, PipelineError
from common.params import Params, load
from common.paths import ENCODER, ROOT, SCHEMA, TENSORS, TRAINING
from common.yaml_file import dump_yaml, read_yaml
from features import datasets
from features.datasets import archive, movielens
from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.tensors import Tensors, write_tensors
from features.schema import Kind, Schema, TaskKind, inputs, to_json
from models.networks.neighbours import Neighbours

STAGES = ("ingest", "validate", "aggregate", "join", "encode")
AUXILIARY = Path("data/auxiliary.parquet")
SEED = 2021  # of the published split of MovieLens-1M
TEXTS = {
    "movielens-1m": "random rows 8:1:1 (pandas, random_state 2021); eight categorical fields; epoch by the mean of six",
    "kuairand-pure": "a slice, 2022-04-25..05-08, not the archive; click, long_view, like; tabs",
    "simulation": "the embedded simulation, whose best possible AUC is known",
}


def prepare(
    dataset: str, path: Path | None, split: str | None, folder: Path, *, changes: Mapping[str, Any] | None = None
) -> str:
    """Write the rows of `dataset` under `folder` (schema, encoder, tensors, truth); returns the protocol in words.

    `path` is the folder that holds the official archive. `split` is time or random, None for the protocol's own.
    `changes` are other values of dataset.simulation.
    Raises ParameterError where there is no such data set or split.
    """
    if dataset not in TEXTS:
        raise ParameterError(f"--dataset {dataset}: expected one of {', '.join(TEXTS)}")
    if dataset == "movielens-1m" and split == "time":
        raise ParameterError("--split time: the protocol of movielens-1m is random; leave --split out")
    changed = params_of(dataset, path, split or ("random" if dataset == "movielens-1m" else "time"))
    changed["dataset"]["simulation"] |= changes or {}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(dump_yaml(changed), encoding="utf-8")
    if dataset == "movielens-1m":
        write_movielens(load(folder / "params.yaml"), folder)
        return TEXTS[dataset]
    for stage in STAGES:
        run_stage(stage, folder)
    return f"{TEXTS[dataset]}; split: {changed['join']['split']}; features as the pipeline makes them"


def params_of(dataset: str, path: Path | None, split: str) -> dict[str, Any]:
    """The params.yaml of this project with another data set, the folder of its archive, and split."""
    plain: dict[str, Any] = read_yaml(ROOT / "params.yaml")
    plain["dataset"] |= {"name": dataset} | ({} if path is None else {"path": str(path.resolve())})
    plain["join"]["split"] = split
    return plain


def run_stage(stage: str, folder: Path) -> None:
    """Run the command of the stage in dvc.yaml in `folder`; raises PipelineError where it fails."""
    command = read_yaml(ROOT / "dvc.yaml")["stages"][stage]["cmd"]
    search = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if subprocess.run(command, shell=True, cwd=folder, env=os.environ | search).returncode:
        raise PipelineError(f"the stage {stage} failed in {folder}: see its message above")


def write_movielens(settings: Params, folder: Path) -> None:
    """Write MovieLens-1M by the published protocol: every rating is a row with both labels.

    An id that no training row has is the unknown id 0; the rows are those of `ratings.dat`, in its order. A file beside
    them holds the labels of two auxiliary tasks, above_1 (rating > 1) and above_2, that no input and no metric reads.
    """
    log = datasets.read(settings.dataset)
    events = pd.concat(log.chunks(), ignore_index=True).rename_axis("event_id").reset_index()
    rows = events.merge(log.users, how="left").merge(log.items, how="left")
    columns = (*inputs(log.schema, ()), *log.schema.profile("users"), *log.schema.profile("items"))
    for name, part in published_split(rows).items():
        _write(part, log.schema, folder / TRAINING / f"{name}.parquet")
    encoder = fit_encoder(log.schema, columns, folder / TRAINING / "train.parquet", minimum_count=1)
    encoder.write(folder / ENCODER)
    (folder / SCHEMA).write_text(to_json(log.schema))
    for name in ("train", "valid", "test"):
        write_tensors(encoder, log.schema, folder / TRAINING / f"{name}.parquet", folder / TENSORS / name)
    _write_auxiliary(settings.dataset.path, set(log.users[log.schema.user]), folder / AUXILIARY)


def _write_auxiliary(path: str, users: set[int], out: Path) -> None:
    """Write the labels above_1 and above_2 of every rating of the `users`, in order; the log has its two tasks only."""
    ratings = pd.concat(movielens.ratings(archive.find(movielens.ARCHIVE, path)))
    rating = ratings.loc[ratings["user_id"].isin(users), "rating"]
    above = pd.DataFrame({f"above_{n}": (rating > n).astype(np.float32) for n in (1, 2)})
    above.to_parquet(out, index=False)


def with_auxiliary(tensors: Tensors, names: Sequence[str], folder: Path) -> Tensors:
    """The same rows with the labels of the auxiliary tasks `names` after those of the schema's tasks [N, T + A]."""
    if not names:
        return tensors
    labels = pd.read_parquet(folder / AUXILIARY, columns=list(names)).to_numpy()[tensors.event_id]
    return dataclasses.replace(tensors, labels=np.hstack([tensors.labels, labels]))


def with_unobserved(tensors: Tensors, names: Sequence[str]) -> Tensors:
    """The same rows with the auxiliary tasks `names` after the schema's tasks, all their labels unobserved."""
    missing = np.full((len(tensors.labels), len(names)), np.nan, np.float32)
    return dataclasses.replace(tensors, labels=np.hstack([tensors.labels, missing]))


def outcome_codes(labels: NDArray[np.float32]) -> tuple[NDArray[np.int64], int]:
    """The outcome of each row as a code [N], and the number of codes: labels [N, T], a missing one as 0.

    Rows with the same labels have the same code. Codes are in the order of the number whose binary digits, lowest
    first, are the labels.
    """
    known = np.nan_to_num(labels).astype(np.int64)
    combinations, outcome = np.unique(known @ (1 << np.arange(known.shape[1])), return_inverse=True)
    return outcome, len(combinations)


def store_neighbours(
    network: nn.Module, train: Tensors, outcome: NDArray[np.int64], encoder: Encoder, schema: Schema
) -> None:
    """Store the training rows in a network with neighbours: users, items, and the outcome of each [N].

    Raises ParameterError where a task is not binary, or the first two categorical columns are not user and item.
    """
    first = [column.name for column in encoder.columns if column.kind is Kind.CATEGORICAL][:2]
    if first != [schema.user, schema.item] or any(task.kind is not TaskKind.BINARY for task in schema.tasks):
        raise ParameterError(
            f"neighbours need binary tasks, and {schema.user} and {schema.item} as first columns, found {first}: "
            "take another row of the table"
        )
    user, item = np.asarray(train.categorical[:, :2], dtype=np.int64).T
    (neighbours,) = (module for module in network.modules() if isinstance(module, Neighbours))
    neighbours.set_training_rows(*map(torch.from_numpy, (user, item, outcome)))


def published_split(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The published split: train is pandas' sample of 0.8 with seed 2021, valid half of the rest with the same seed."""
    train = rows.sample(frac=0.8, random_state=SEED)
    rest = rows.drop(train.index)
    valid = rest.sample(frac=0.5, random_state=SEED)
    return {"train": train, "valid": valid, "test": rest.drop(valid.index)}


def _write(rows: pd.DataFrame, schema: Schema, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)
