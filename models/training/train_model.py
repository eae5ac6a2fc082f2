"""A whole training run: encoded rows on disk to a model folder, with a checkpoint in between."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from common import stage
from common.checksum_memo import ChecksumMemo
from common.errors import ParameterError
from common.train_params import Train
from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors, open_tensors
from features.schema import Schema, mean_title, read_schema
from models.evaluation.predict import predict
from models.evaluation.reference_profile import measure_profile
from models.model_folder import build_network, round_embeddings, write_model
from models.training import distributed
from models.training.calibrate import check_calibration, fit_calibration
from models.training.checkpoint import Checkpoint, checkpoint_key, code_of
from models.training.configuration import arguments_of, cell_weights, recipe_of, settings_of
from models.training.curves import curves_of, summary_of
from models.training.device import flush_denormals, make_deterministic, resolve_device
from models.training.distributed import Group
from models.training.final_pass import fit_final
from models.training.loop import FitResult, Observer, fit
from models.training.loss import LossTerms
from models.training.row_age import age_rows, reads_age
from models.training.start_columns import Start
from models.training.warm_start import check_unseen, days_of, final_day, start_from, start_key

FINAL = {"final_pass": True}  # in the key of its checkpoint
CHECKSUMS = "checksums.json"  # of the tensors, beside the checkpoints: only rows that are new are read to be hashed
NO_STEP = {  # parameters that change no step
    "checkpoint_seconds",
    "processes",
    "calibration",
    "warm_start",
    "embedding_precision",
}


def train_model(
    model: str,
    copied: Mapping[str, Path],
    tensors: Path,
    out: Path,
    *,
    checkpoints: Path | None,
    settings: Train,
    training: Path | None = None,
    start: Path | None = None,
    observe: Observer | None = None,
) -> None:
    """Train the network called `model` as one process of its group; the main process writes the model folder `out`.

    Args:
        model: a name in models.model_folder.NETWORKS.
        copied: paths of `schema`, `views`, `encoder` and `reference`, which the model folder gets copies of.
        tensors: folder of the encoded rows, in `train` and `valid`.
        out: the model folder.
        checkpoints: folder of the checkpoints; None: none are written.
        settings: params.train.
        training: folder of the rows before they were encoded; required with `start`, and where their age counts.
        start: the model folder in which the training begins; None: new weights.
        observe: what follows the run, in the main process.
    """
    schema, encoder = read_schema(copied["schema"]), Encoder.read(copied["encoder"])
    settings = settings_of(model, settings)
    more = final_day(recipe_of(settings), training, schema)
    arguments = arguments_of(model, encoder.layout, schema.tasks, settings)
    check_calibration(settings.calibration, schema)
    settings = settings if start is None else _of_warm_start(settings)
    with flush_denormals(), distributed.process_group(resolve_device(settings.device)) as group:
        torch.set_num_threads(max(1, stage.threads() // distributed.local_processes()))
        make_deterministic(settings.seed)
        network = build_network(model, arguments)
        today = Start(model, arguments, schema, encoder, settings.warm_start_columns)
        more |= _start(network, start, today, training)
        facts = {"model": model, "arguments": arguments, "schema": schema.fingerprint()}
        facts |= start_key(start) | ({"targets": encoder.targets} if encoder.targets else {})
        files = _row_files(tensors, training, settings)
        with group.main_first():
            checkpoint, final = _checkpoints(checkpoints, network, facts, files, settings)
        rows, recipe = _rows(tensors, training, schema, settings), recipe_of(settings)
        run = _run_arguments(schema, settings, encoder, group)
        result = fit(network, *rows, recipe, checkpoint=checkpoint, observe=observe, **run)
        measured = _measure(network, rows[1], today, settings.calibration) if group.is_main else {}
        fit_final(result, *rows, recipe, checkpoint=final, **run)
        if not group.is_main:
            return
        summary = {**summary_of(network, result, settings.seed, measured["calibration"]), **more}
        if settings.embedding_precision == "bfloat16":
            round_embeddings(network)
        _write(out, network.cpu(), result, today, summary=summary, **measured, **copied)
        if checkpoint is not None:
            checkpoint.remove()
    _print_best(model, result, schema)


def _of_warm_start(settings: Train) -> Train:
    """The parameters of a training that begins in a model."""
    return settings.model_copy(update={"epochs": settings.warm_epochs, "window_days": settings.warm_window_days})


def _start(network: nn.Module, folder: Path | None, today: Start, training: Path | None) -> dict[str, Any]:
    """Give the network the weights of the model in `folder`, if there is one; what the summary says of it."""
    if folder is None:
        return {}
    if training is None:
        raise ParameterError(
            f"--warm-start {folder} needs --training, the folder of valid.parquet: expected validation rows that the "
            "model has not learned from"
        )
    mapped = start_from(network, folder, today)
    check_unseen(folder, days_of(training / "valid.parquet", today.schema)[0])
    return {"warm_start": mapped}


def _run_arguments(schema: Schema, settings: Train, encoder: Encoder, group: Group) -> dict[str, Any]:
    """What both passes of `fit` have in common."""
    return {
        "scenarios": schema.scenarios,
        "tasks": schema.tasks,
        "terms": LossTerms(cell_weights=cell_weights(schema, settings), targets=encoder.targets),
        "device": settings.device,
        "group": group,
    }


def _measure(network: nn.Module, valid: Tensors, today: Start, kind: str) -> dict[str, Any]:
    """Calibration and reference profile of the network on the validation rows, before it learns from these."""
    logits: NDArray[Any] = predict(network.cpu(), valid, "validation rows")
    calibration = fit_calibration(kind, logits, valid, today.schema)
    if calibration is not None:
        logits = calibration.of_rows(logits, valid.scenario)
    profile = measure_profile(network, valid, today.encoder, today.schema, logits=logits)
    return {"calibration": calibration, "profile": profile}


def _write(out: Path, network: nn.Module, result: FitResult, today: Start, **parts: Any) -> None:
    """Write the model folder of the network that was trained; `parts` are the other arguments of `write_model`."""
    curves = curves_of(result, today.schema)
    write_model(out, model_name=today.model, network=network, arguments=today.arguments, curves=curves, **parts)


def _print_best(model: str, result: FitResult, schema: Schema) -> None:
    best, mean = result.best, mean_title(schema.tasks)
    print(f"{model}: epoch {best.number} is best, validation {mean} {best.valid_mean:.4f}", flush=True)


def _rows(tensors: Path, training: Path | None, schema: Schema, settings: Train) -> tuple[Tensors, Tensors]:
    """The training rows, those whose age is asked for, and the validation rows."""
    train = age_rows(open_tensors(tensors / "train"), training, schema.timestamp, settings)
    return train, open_tensors(tensors / "valid")


def _row_files(tensors: Path, training: Path | None, settings: Train) -> list[Path]:
    """The files of the rows that a training with these parameters reads."""
    files = [path for split in ("train", "valid") for path in sorted((tensors / split).glob("*.npy"))]
    return files + ([training / "train.parquet"] if training and reads_age(settings) else [])


def _checkpoints(
    folder: Path | None, network: nn.Module, facts: Mapping[str, Any], files: Sequence[Path], settings: Train
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The checkpoints of both passes of the run with these facts, files of rows, parameters and code."""
    if folder is None:
        return None, None
    known = {
        **facts,
        "parameters": settings.model_dump(exclude=NO_STEP),
        "device": resolve_device(settings.device).type,
    }
    memo, code = ChecksumMemo(folder / CHECKSUMS), code_of(network)
    checksums = {file: memo.sha256_of(file) for file in files}
    memo.write()
    keys = [checkpoint_key(known | more, files, code, checksums.__getitem__) for more in ({}, FINAL)]
    kind = _kind(settings)
    first, final = (kind(folder / facts["model"], key, settings.checkpoint_seconds) for key in keys)
    return first, final


def _kind(settings: Train) -> type[Checkpoint]:
    """What a checkpoint is: one file, or with divided tables a folder."""
    if not settings.shard_embeddings:
        return Checkpoint
    from models.training.sharded_checkpoint import ShardedCheckpoint

    return ShardedCheckpoint
