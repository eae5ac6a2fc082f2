"""A model on disk: everything that serving it needs, and nothing that could run code (no pickle).

    weights.safetensors   the network's parameters
    model.json            name, arguments of the network's constructor, summary, fingerprint of the schema,
                          sha256 of every other file
    schema.json  views.json  encoder.json   copies of what the model was trained with
    reference.json        histograms of the training rows: what drift is measured against
    curves.json           what each epoch came to
    behaviour.json        scores on the validation rows, and the importance of each column

The same model is the same bytes: no clock, no host, no order of chance.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import nn

from common.errors import ModelError
from features.encoding.encoder import Encoder
from features.schema import Schema, View, read_schema, read_views
from models.networks.hinet import HiNet
from models.peers.adaptive import STAR, PEPNet
from models.peers.baselines import MLPPerScenario, SharedBottom, SharedMLP
from models.peers.mixtures import PLE, M3oE, MMoE

NETWORKS: dict[str, type[nn.Module]] = {
    "hinet": HiNet,
    "shared_bottom": SharedBottom,
    "mlp_per_scenario": MLPPerScenario,
    "shared_mlp": SharedMLP,
    "mmoe": MMoE,
    "ple": PLE,
    "star": STAR,
    "pepnet": PEPNet,
    "m3oe": M3oE,
}  # each by the name of its section of params.train
MODEL = "model.json"
FILES = (WEIGHTS, SCHEMA, VIEWS, ENCODER, REFERENCE, CURVES, BEHAVIOUR) = (
    "weights.safetensors",
    "schema.json",
    "views.json",
    "encoder.json",
    "reference.json",
    "curves.json",
    "behaviour.json",
)
TAG_DIGITS = 12


@dataclass(frozen=True)
class Model:
    """A network that is ready to score (eval mode, CPU) and what it was trained with.

    `tag` identifies the weights: the first digits of their sha256.
    """

    name: str
    network: nn.Module
    schema: Schema
    views: tuple[View, ...]
    encoder: Encoder
    summary: dict[str, Any]
    tag: str


def write_model(
    folder: Path,
    *,
    model_name: str,
    network: nn.Module,
    arguments: Mapping[str, Any],
    summary: Mapping[str, Any],
    curves: Any,
    behaviour: Any,
    schema: Path,
    views: Path,
    encoder: Path,
    reference: Path,
) -> None:
    """Write a model folder beside `folder`, then put it in its place: what stands there is whole or not there.

    Raises ModelError on a network with neighbours, which reads the training rows: no folder holds those.
    """
    _refuse_neighbours(folder, model_name, arguments)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes(save({name: value.cpu() for name, value in network.state_dict().items()}))
    (partial / CURVES).write_text(_json(curves))
    (partial / BEHAVIOUR).write_text(_json(behaviour))
    for name, source in ((SCHEMA, schema), (VIEWS, views), (ENCODER, encoder), (REFERENCE, reference)):
        shutil.copyfile(source, partial / name)
    facts = {
        "name": model_name,
        "arguments": arguments,
        "summary": summary,
        "schema": read_schema(schema).fingerprint(),
        "sha256": {name: _sha256(partial / name) for name in FILES},
    }
    (partial / MODEL).write_text(_json(facts))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read_model(folder: Path) -> Model:
    """The model in `folder`, after every file was held against its sha256; raises ModelError on any difference."""
    facts = _facts(folder)
    for name, expected in facts["sha256"].items():
        _verify(folder / name, expected)
    schema, encoder = read_schema(folder / SCHEMA), Encoder.read(folder / ENCODER)
    if schema.fingerprint() != facts["schema"]:
        _differs(folder / SCHEMA, "a schema with fingerprint", facts["schema"], schema.fingerprint())
    return Model(
        name=facts["name"],
        network=_network(folder, facts, encoder),
        schema=schema,
        views=read_views(folder / VIEWS),
        encoder=encoder,
        summary=facts["summary"],
        tag=facts["sha256"][WEIGHTS][:TAG_DIGITS],
    )


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / MODEL
    if not path.is_file():
        raise ModelError(f"{path} does not exist: {folder} is no model folder, or `dvc repro` did not train it yet")
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): the folder is damaged; train again") from error
    expected = {"name", "arguments", "summary", "schema", "sha256"}
    if not isinstance(facts, dict) or set(facts) != expected:
        _differs(path, "the keys", sorted(expected), sorted(facts))
    if set(facts["sha256"]) != set(FILES):
        _differs(path, "sha256 of", sorted(FILES), sorted(facts["sha256"]))
    return facts


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(f"{path} does not exist, but {MODEL} names it: take the folder from its source or train again")
    found = _sha256(path)
    if found != expected:
        _differs(path, "sha256", expected, found)


def _network(folder: Path, facts: Mapping[str, Any], encoder: Encoder) -> nn.Module:
    name, arguments = facts["name"], facts["arguments"]
    if name not in NETWORKS:
        _differs(folder / MODEL, "a name out of", sorted(NETWORKS), name)
    _refuse_neighbours(folder, name, arguments)
    for field, value in json.loads(json.dumps(dataclasses.asdict(encoder.layout))).items():
        if arguments.get(field) != value:
            _differs(folder / MODEL, f"the encoder's {field}", value, arguments.get(field))
    try:
        network = NETWORKS[name](**arguments)
        network.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except (TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder}: the weights do not fit a {name} of these arguments: {error}") from error
    return network.eval()


def _refuse_neighbours(folder: Path, name: str, arguments: Mapping[str, Any]) -> None:
    if arguments.get("neighbours"):
        raise ModelError(
            f"{folder}: {name} with neighbours reads the training rows, which a model folder does not hold: "
            "it is for benchmarks; train without neighbours"
        )


def _differs(path: Path, what: str, expected: object, found: object) -> None:
    raise ModelError(
        f"{path}: expected {what} {expected}, found {found}: the folder was changed after it was written; "
        "take it from its source or train again"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(plain: Any) -> str:
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"
