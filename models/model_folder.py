"""A model on disk: everything that serving it needs, and nothing that could run code (no pickle).

    weights.safetensors   the network's parameters
    model.json            the network's name, the arguments it is rebuilt from, summary, fingerprint of the schema,
                          sha256 of every other file
    schema.json  views.json  encoder.parquet   copies of those that the model was trained with
    reference.json        histograms of the training rows: the reference of drift monitoring
    curves.json           losses and metrics of each epoch
    behaviour.json        the reference profile: scores on the validation rows, and the importance of each column
    calibration.json      the maps of the logits, only where train.calibration is not none

The same model is the same bytes: no clock, no host, no random order.
"""

import hashlib
import json
import pkgutil
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import nn

from common.errors import ModelError
from common.files import replacing_folder, sha256_of
from features.encoding.encoder import Encoder
from features.schema import Schema, View, read_schema, read_views
from models.networks.calibration import Calibration
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding

NETWORKS = {  # by the name of the network's section of params.train: where its class is, imported when it is built
    "hinet": "models.networks.hinet:HiNet",
    "hinet_plus": "models.networks.hinet:HiNet",
    "shared_bottom": "models.networks.shared_bottom:SharedBottom",
    "mlp_per_scenario": "models.peers.mlp_per_scenario:MLPPerScenario",
    "shared_mlp": "models.peers.shared_mlp:SharedMLP",
    "mmoe": "models.peers.mmoe:MMoE",
    "ple": "models.peers.ple:PLE",
    "star": "models.peers.star:STAR",
    "pepnet": "models.peers.pepnet:PEPNet",
    "m3oe": "models.peers.m3oe:M3oE",
    "autoifs": "models.peers.autoifs:AutoIFS",
}
MODEL = "model.json"
FILES = (WEIGHTS, SCHEMA, VIEWS, ENCODER, REFERENCE, CURVES, PROFILE) = (
    "weights.safetensors",
    "schema.json",
    "views.json",
    "encoder.parquet",
    "reference.json",
    "curves.json",
    "behaviour.json",
)
OLD_ENCODER = "encoder.json"  # of models of earlier versions
CALIBRATION = "calibration.json"  # of calibrated models only
LAST_DAY = "last_day"  # in the summary of a model that has learned from its validation rows, too
TAG_DIGITS = 12


@dataclass(frozen=True)
class Model:
    """A network that is ready to score (eval mode, CPU) and what it was trained with.

    `tag` identifies it: the first digits of the sha256 of the weights, of a calibrated one of weights and calibration.
    `weights_sha256` is that of the weights alone.
    """

    name: str
    network: nn.Module
    schema: Schema
    views: tuple[View, ...]
    encoder: Encoder
    summary: dict[str, Any]
    tag: str
    weights_sha256: str
    calibration: Calibration | None = None


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build the network called `name` with new weights from plain arguments, as model.json holds them.

    `arguments` are the fields of DataSpec ("data") and those of the network's config ("config"). Raises TypeError or
    ValueError if they do not fit the network.
    """
    network_class = pkgutil.resolve_name(NETWORKS[name])
    config = network_class.config_class(**arguments["config"])
    network: nn.Module = network_class(DataSpec(**arguments["data"]), config)
    return network


def round_embeddings(network: nn.Module) -> None:
    """Store the embeddings of a trained network as bfloat16: half of the memory, eight bits of each number."""
    for module in network.modules():
        if isinstance(module, FeatureEmbedding):
            module.weight = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)


def write_model(
    folder: Path,
    *,
    model_name: str,
    network: nn.Module,
    arguments: Mapping[str, Any],
    summary: Mapping[str, Any],
    curves: Any,
    profile: Any,
    schema: Path,
    views: Path,
    encoder: Path,
    reference: Path,
    calibration: Calibration | None = None,
) -> None:
    """Write a model folder; a reader sees the whole new folder or none.

    Raises ModelError on a network with neighbours, which reads the training rows: no folder holds those.

    Args:
        folder: the model folder; an earlier one is replaced.
        model_name: a name in NETWORKS.
        network: the trained network.
        arguments: those that `build_network` rebuilds the network from.
        summary: what `Model.summary` holds.
        curves: losses and metrics of each epoch.
        profile: the reference profile.
        schema: path of the schema, which is copied.
        views: path of the views, which is copied.
        encoder: path of the encoder, which is copied.
        reference: path of the histograms of the training rows, which is copied.
        calibration: of the logits; None: there is none.
    """
    _refuse_neighbours(folder, model_name, arguments)
    with replacing_folder(folder) as partial:
        (partial / WEIGHTS).write_bytes(save({name: value.cpu() for name, value in network.state_dict().items()}))
        (partial / CURVES).write_text(_json(curves))
        (partial / PROFILE).write_text(_json(profile))
        for name, source in ((SCHEMA, schema), (VIEWS, views), (ENCODER, encoder), (REFERENCE, reference)):
            shutil.copyfile(source, partial / name)
        if calibration is not None:
            (partial / CALIBRATION).write_text(_json(calibration.document))
        files = FILES if calibration is None else (*FILES, CALIBRATION)
        description = {
            "name": model_name,
            "arguments": arguments,
            "summary": summary,
            "schema": read_schema(schema).fingerprint(),
            "sha256": {name: sha256_of(partial / name) for name in files},
        }
        (partial / MODEL).write_text(_json(description))


def read_model(folder: Path) -> Model:
    """Read the model in `folder` after the sha256 of every file is checked; raises ModelError on any difference."""
    description = _description(folder)
    for name, expected in description["sha256"].items():
        _verify(folder / name, expected)
    schema, encoder = read_schema(folder / SCHEMA), _encoder(folder, description)
    if schema.fingerprint() != description["schema"]:
        _differs(folder / SCHEMA, "a schema with fingerprint", description["schema"], schema.fingerprint())
    return Model(
        name=description["name"],
        network=_network(folder, description, encoder),
        schema=schema,
        views=read_views(folder / VIEWS),
        encoder=encoder,
        summary=description["summary"],
        tag=_tag(description["sha256"]),
        weights_sha256=description["sha256"][WEIGHTS],
        calibration=_calibration(folder, schema) if CALIBRATION in description["sha256"] else None,
    )


def _encoder(folder: Path, description: Mapping[str, Any]) -> Encoder:
    return Encoder.read(folder / (OLD_ENCODER if OLD_ENCODER in description["sha256"] else ENCODER))


def _tag(sha256: Mapping[str, str]) -> str:
    if CALIBRATION not in sha256:
        return sha256[WEIGHTS][:TAG_DIGITS]
    return hashlib.sha256(f"{sha256[WEIGHTS]}{sha256[CALIBRATION]}".encode()).hexdigest()[:TAG_DIGITS]


def _calibration(folder: Path, schema: Schema) -> Calibration:
    path = folder / CALIBRATION
    try:
        return Calibration(json.loads(path.read_text()), scenarios=schema.scenarios, outputs=schema.output_names)
    except ValueError as error:
        raise ModelError(f"{path} is no calibration of this model ({error}): train again") from error


def read_arguments(folder: Path) -> dict[str, Any]:
    """The plain arguments that the network of the model in `folder` was built from; raises ModelError without them."""
    arguments: dict[str, Any] = _description(folder)["arguments"]
    return arguments


def last_day(folder: Path) -> date:
    """The last day (UTC) of the rows that the model in `folder` has learned from."""
    summary = _description(folder)["summary"]
    if LAST_DAY in summary:
        return date.fromisoformat(summary[LAST_DAY])
    reference = json.loads((folder / REFERENCE).read_text(encoding="utf-8"))
    return date.fromisoformat(reference["first_day"]) + timedelta(days=len(reference["rows"]) - 1)


def _description(folder: Path) -> dict[str, Any]:
    path = folder / MODEL
    if not path.is_file():
        raise ModelError(f"{path} does not exist: {folder} is no model folder, or `dvc repro` did not train it yet")
    try:
        description: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): the folder is damaged; train again") from error
    _check_keys(path, "the keys", {"name", "arguments", "summary", "schema", "sha256"}, description)
    named = description["sha256"]
    _check_keys(path, "sha256 of", _expected_files(named), named)
    _check_keys(path, "arguments with the keys", {"data", "config"}, description["arguments"])
    return description


def _expected_files(named: Any) -> set[str]:
    """FILES, in a folder of an earlier version with OLD_ENCODER, and the calibration where it is among the `named`."""
    optional = {OLD_ENCODER, CALIBRATION} & (named.keys() if isinstance(named, dict) else set())
    return {*FILES} - ({ENCODER} if OLD_ENCODER in optional else set()) | optional


def _check_keys(path: Path, what: str, expected: set[str], value: Any) -> None:
    if not isinstance(value, dict) or set(value) != expected:
        _differs(path, what, sorted(expected), sorted(value) if isinstance(value, dict) else value)


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(f"{path} does not exist, but {MODEL} names it: take the folder from its source or train again")
    actual = sha256_of(path)
    if actual != expected:
        _differs(path, "sha256", expected, actual)


def _network(folder: Path, description: Mapping[str, Any], encoder: Encoder) -> nn.Module:
    name, arguments = description["name"], description["arguments"]
    if name not in NETWORKS:
        _differs(folder / MODEL, "a name out of", sorted(NETWORKS), name)
    _refuse_neighbours(folder, name, arguments)
    for field, value in json.loads(json.dumps(encoder.layout.plain())).items():
        if arguments["data"].get(field) != value:
            _differs(folder / MODEL, f"the encoder's {field}", value, arguments["data"].get(field))
    try:
        network, weights = build_network(name, arguments), load((folder / WEIGHTS).read_bytes())
        if any(weight.dtype == torch.bfloat16 for weight in weights.values()):
            round_embeddings(network)
        network.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder}: the weights do not fit a {name} of these arguments: {error}") from error
    return network.eval()


def _refuse_neighbours(folder: Path, name: str, arguments: Mapping[str, Any]) -> None:
    if arguments["config"].get("neighbours"):
        raise ModelError(
            f"{folder}: {name} with neighbours reads the training rows, which a model folder does not hold: "
            "it is for benchmarks; train without neighbours"
        )


def _differs(path: Path, what: str, expected: object, actual: object) -> None:
    raise ModelError(
        f"{path}: expected {what} {expected}, found {actual}: the folder was changed after it was written; "
        "take it from its source or train again"
    )


def _json(plain: Any) -> str:
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"
