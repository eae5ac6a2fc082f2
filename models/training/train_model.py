"""A whole training run: encoded rows on disk to a model folder, with a checkpoint in between."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from common import stage
from common.train_params import Train
from features.encoding.encoder import Encoder
from features.encoding.target_scale import TargetScale
from features.encoding.tensors import Tensors, open_tensors
from features.schema import Schema, mean_title, read_schema
from models.evaluation.predict import predict
from models.evaluation.reference_profile import measure_profile
from models.model_folder import build_network, write_model
from models.networks.calibration import Calibration
from models.training import distributed
from models.training.calibrate import check_calibration, fit_calibration
from models.training.checkpoint import Checkpoint, checkpoint_key, code_of
from models.training.configuration import arguments_of, cell_weights, recipe_of
from models.training.curves import curves_of, summary_of
from models.training.device import flush_denormals, make_deterministic, resolve_device
from models.training.distributed import Group
from models.training.loop import FitResult, Observer, fit
from models.training.loss import LossTerms


def train_model(
    model: str,
    copied: Mapping[str, Path],
    tensors: Path,
    out: Path,
    *,
    checkpoints: Path | None,
    settings: Train,
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
        observe: what follows the run, in the main process.
    """
    schema, encoder = read_schema(copied["schema"]), Encoder.read(copied["encoder"])
    arguments = arguments_of(model, encoder.layout, schema.tasks, settings)
    check_calibration(settings.calibration, schema)
    with flush_denormals(), distributed.process_group(resolve_device(settings.device)) as group:
        torch.set_num_threads(max(1, stage.threads() // distributed.local_processes()))
        make_deterministic(settings.seed)
        network = build_network(model, arguments)
        facts = {"model": model, "arguments": arguments, "schema": schema.fingerprint(), "processes": group.size}
        facts |= {"targets": encoder.targets} if encoder.targets else {}
        checkpoint = _checkpoint(checkpoints / model, network, facts, tensors, settings) if checkpoints else None
        result = _fit(
            network,
            tensors,
            schema,
            settings,
            checkpoint=checkpoint,
            group=group,
            observe=observe,
            targets=encoder.targets,
        )
        if not group.is_main:
            return
        valid = open_tensors(tensors / "valid")
        calibration, logits = _calibrate(settings.calibration, network.cpu(), valid, schema)
        write_model(
            out,
            model_name=model,
            network=network,
            arguments=arguments,
            summary=summary_of(network, result, settings.seed, calibration),
            curves=curves_of(result, schema),
            profile=measure_profile(network, valid, encoder, schema, logits=logits),
            calibration=calibration,
            **copied,
        )
        if checkpoint is not None:
            checkpoint.remove()
    best, mean = result.best, mean_title(schema.tasks)
    print(f"{model}: epoch {best.number} is best, validation {mean} {best.valid_mean:.4f}", flush=True)


def _calibrate(
    kind: str, network: nn.Module, valid: Tensors, schema: Schema
) -> tuple[Calibration | None, NDArray[Any]]:
    """The calibration of the network, None without one, and the logits [N, O] of the validation rows by it."""
    logits = predict(network, valid, "validation rows")
    calibration = fit_calibration(kind, logits, valid, schema)
    return calibration, logits if calibration is None else calibration.of_rows(logits, valid.scenario)


def _fit(
    network: nn.Module,
    tensors: Path,
    schema: Schema,
    settings: Train,
    *,
    checkpoint: Checkpoint | None,
    group: Group,
    observe: Observer | None,
    targets: Mapping[str, TargetScale],
) -> FitResult:
    """Train the network on the encoded rows with the parameters of params.train.

    Args:
        network: the new network.
        tensors: folder of the encoded rows, in `train` and `valid`.
        schema: the schema of the data set.
        settings: params.train.
        checkpoint: where the run saves its state and resumes from.
        group: the processes that train together.
        observe: what follows the run.
        targets: the scales of the regression tasks.
    """
    return fit(
        network,
        open_tensors(tensors / "train"),
        open_tensors(tensors / "valid"),
        recipe_of(settings),
        scenarios=schema.scenarios,
        tasks=schema.tasks,
        terms=LossTerms(cell_weights=cell_weights(schema, settings), targets=targets),
        device=settings.device,
        checkpoint=checkpoint,
        group=group,
        observe=observe,
    )


def _checkpoint(
    folder: Path, network: nn.Module, facts: Mapping[str, Any], tensors: Path, settings: Train
) -> Checkpoint:
    """The checkpoint of the run with these facts, rows, parameters and code."""
    parameters = settings.model_dump(exclude={"checkpoint_seconds", "processes", "calibration"})
    device = resolve_device(settings.device).type
    files = [path for split in ("train", "valid") for path in sorted((tensors / split).glob("*.npy"))]
    key = checkpoint_key({**facts, "parameters": parameters, "device": device}, files, code_of(network))
    return Checkpoint(folder, key, settings.checkpoint_seconds)
