"""models/model_folder.py: the same model has the same bytes, and a changed file is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import ModelError
from common.files import sha256_of
from common.params import load
from features.encoding.encoder import METADATA, Encoder
from features.encoding.fitting import fit_encoder
from features.schema import inputs, to_json
from models.inference.exported import random_rows
from models.model_folder import (
    CALIBRATION,
    ENCODER,
    FILES,
    MODEL,
    NETWORKS,
    WEIGHTS,
    build_network,
    read_model,
    round_embeddings,
    write_model,
)
from models.networks.calibration import Calibration
from models.training.configuration import arguments_of
from tests.support import world
from tests.support.calibrated import ISOTONIC, PLATT, calibrated_copy

pytestmark = pytest.mark.integration
SCHEMA = world.schema()
SUMMARY = {"best_epoch": 2, "valid_mean_auc": 0.75}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """schema.json, views.json and encoder.parquet of the tiny world."""
    folder = tmp_path_factory.mktemp("sources")
    pq.write_table(pa.Table.from_pandas(world.tables()["events"]), folder / "train.parquet")
    fit_encoder(SCHEMA, inputs(SCHEMA, ()), folder / "train.parquet", 1).write(folder / "encoder.parquet")
    (folder / "schema.json").write_text(to_json(SCHEMA))
    (folder / "views.json").write_text(to_json(()))
    (folder / "reference.json").write_text("{}")
    plain = {name: folder / f"{name}.json" for name in ("schema", "views", "reference")}
    return plain | {"encoder": folder / "encoder.parquet"}


def written(
    folder: Path, sources: dict[str, Path], name: str = "hinet", *, rounded: bool = False
) -> tuple[Path, torch.nn.Module]:
    """A model folder, and the network that was written to it."""
    arguments = arguments_of(name, Encoder.read(sources["encoder"]).layout, SCHEMA.tasks, load().train)
    torch.manual_seed(0)
    network = build_network(name, arguments)
    if rounded:
        round_embeddings(network)
    write_model(
        folder / name,
        model_name=name,
        network=network,
        arguments=arguments,
        summary=SUMMARY,
        curves=[{"epoch": 1}],
        profile={},
        **sources,
    )
    return folder / name, network


def edit(path: Path, **fields: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_read_is_what_was_written(tmp_path: Path, sources: dict[str, Path], name: str) -> None:
    """Weights to the bit, schema, views, encoder and summary are read back; the network is ready to score."""
    folder, network = written(tmp_path, sources, name)
    model = read_model(folder)
    assert (model.name, model.schema, model.views, model.summary) == (name, SCHEMA, (), SUMMARY)
    assert model.encoder == Encoder.read(sources["encoder"])
    assert not model.network.training
    assert len(model.tag) == 12
    for key, value in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)


def test_the_same_model_is_the_same_bytes(tmp_path: Path, sources: dict[str, Path]) -> None:
    """Written twice, also over an existing folder, every file is the same to the byte."""
    first, _ = written(tmp_path / "one", sources)
    second, _ = written(tmp_path / "two", sources)
    bytes_of = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)]
    assert bytes_of[0] == bytes_of[1]
    written(tmp_path / "two", sources)
    assert bytes_of[0] == {path.name: path.read_bytes() for path in second.iterdir()}
    assert set(bytes_of[0]) == {MODEL, *FILES}
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["hinet"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(tmp_path: Path, sources: dict[str, Path], name: str) -> None:
    """One byte more in any file: the error names the file, the expected sha256 and the actual one."""
    folder, _ = written(tmp_path, sources)
    expected = json.loads((folder / MODEL).read_text())["sha256"][name]
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=rf"{name}: expected sha256 {expected}, found [0-9a-f]{{64}}"):
        read_model(folder)


@pytest.mark.parametrize("name", [MODEL, *FILES])
def test_a_missing_file_is_refused(tmp_path: Path, sources: dict[str, Path], name: str) -> None:
    """The error names the missing file."""
    folder, _ = written(tmp_path, sources)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} does not exist"):
        read_model(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": "0" * 64}, "schema.json: expected a schema with fingerprint 0000"),
        ({"name": "resnet"}, "expected a name out of .*hinet.*, found resnet"),
        ({"sha256": {}}, "expected sha256 of .*, found \\[\\]"),
        ({"pickle": 1}, "expected the keys .*, found .*pickle"),
        ({"arguments": {"tasks": 2}}, r"expected arguments with the keys \['config', 'data'\], found \['tasks'\]"),
    ],
)
def test_a_changed_description_is_refused(
    tmp_path: Path, sources: dict[str, Path], fields: dict[str, Any], message: str
) -> None:
    """model.json is checked against the schema, the known networks and its own layout."""
    folder, _ = written(tmp_path, sources)
    edit(folder / MODEL, **fields)
    with pytest.raises(ModelError, match=message):
        read_model(folder)


def test_arguments_must_fit_encoder_and_weights(tmp_path: Path, sources: dict[str, Path]) -> None:
    """Arguments that contradict the encoder, the weights or the constructor are refused."""
    folder, _ = written(tmp_path, sources)
    arguments = json.loads((folder / MODEL).read_text())["arguments"]
    for part, wrong, message in (
        ("data", {"numeric": 99}, "the encoder's numeric"),
        ("config", {"sub_experts": 1}, "weights do not fit"),
        ("config", {"color": "red"}, "weights do not fit"),
        ("data", {"color": "red"}, "weights do not fit"),
    ):
        edit(folder / MODEL, arguments={**arguments, part: {**arguments[part], **wrong}})
        with pytest.raises(ModelError, match=message):
            read_model(folder)


def test_neighbours_are_refused(tmp_path: Path, sources: dict[str, Path]) -> None:
    """No folder holds the training rows that such a network reads: it is neither written nor read."""
    folder, network = written(tmp_path, sources)
    arguments = json.loads((folder / MODEL).read_text())["arguments"]
    arguments["config"]["neighbours"] = 4
    edit(folder / MODEL, arguments=arguments)
    with pytest.raises(ModelError, match="hinet with neighbours reads the training rows"):
        read_model(folder)
    with pytest.raises(ModelError, match="hinet with neighbours reads the training rows"):
        write_model(
            tmp_path / "other",
            model_name="hinet",
            network=network,
            arguments=arguments,
            summary=SUMMARY,
            curves=[],
            profile={},
            **sources,
        )
    assert not (tmp_path / "other").exists()


def test_a_model_of_an_earlier_version_is_read(tmp_path: Path, sources: dict[str, Path]) -> None:
    """Its encoder is JSON: it is read, and its bytes are checked as before."""
    folder, _ = written(tmp_path, sources)
    expected, path = read_model(folder).encoder, folder / ENCODER
    plain = json.loads(pq.read_schema(path).metadata[METADATA])
    plain["tables"] = {name: list(values) for name, values in expected.vocabularies.items()}
    old, description = path.with_suffix(".json"), json.loads((folder / MODEL).read_text())
    path.unlink()
    old.write_text(json.dumps(plain))
    del description["sha256"][ENCODER]
    description["sha256"][old.name] = sha256_of(old)
    (folder / MODEL).write_text(json.dumps(description))
    assert read_model(folder).encoder == expected
    old.unlink()
    with pytest.raises(ModelError, match=r"encoder\.json does not exist"):
        read_model(folder)


def test_a_description_that_is_no_json_is_refused(tmp_path: Path, sources: dict[str, Path]) -> None:
    """The error names a truncated model.json."""
    folder, _ = written(tmp_path, sources)
    (folder / MODEL).write_text('{"name": ')
    with pytest.raises(ModelError, match=r"model\.json is not JSON"):
        read_model(folder)


def test_only_peers_are_imported_from_the_peers_package() -> None:
    """HiNet and the shared bottom, which `dvc repro` trains, are in models.networks; nothing else imports a peer."""
    packages = {name: where.rpartition(".")[0] for name, where in NETWORKS.items()}
    trained = {"hinet_plus", "hinet", "shared_bottom"}
    assert {packages[name] for name in trained} == {"models.networks"}
    assert {packages[name] for name in NETWORKS if name not in trained} == {"models.peers"}


def test_a_network_is_rebuilt_from_its_arguments(sources: dict[str, Path]) -> None:
    """The arguments are plain JSON: rebuilt from text, the network has the same parameters."""
    arguments = arguments_of("hinet", Encoder.read(sources["encoder"]).layout, SCHEMA.tasks, load().train)
    first, second = (build_network("hinet", given) for given in (arguments, json.loads(json.dumps(arguments))))
    shapes = [{name: value.shape for name, value in made.state_dict().items()} for made in (first, second)]
    assert shapes[0] == shapes[1]


def calibrated(folder: Path, sources: dict[str, Path], document: dict[str, Any]) -> Path:
    """The model folder of `written`, with a calibration of this document."""
    made, _ = written(folder, sources)
    return calibrated_copy(made, made.with_name("calibrated"), document)


def test_a_calibration_is_read_back_and_changes_the_tag(tmp_path: Path, sources: dict[str, Path]) -> None:
    """`write_model` writes it as one file more; the same weights with another calibration are another model."""
    folder, network = written(tmp_path, sources)
    plain, document = read_model(folder), json.loads((folder / MODEL).read_text())
    made = Calibration(PLATT, scenarios=SCHEMA.scenarios, outputs=SCHEMA.output_names)
    write_model(
        tmp_path / "calibrated",
        model_name="hinet",
        network=network,
        arguments=document["arguments"],
        summary=SUMMARY,
        curves=[],
        profile={},
        calibration=made,
        **sources,
    )
    model = read_model(tmp_path / "calibrated")
    assert {path.name for path in (tmp_path / "calibrated").iterdir()} == {MODEL, *FILES, CALIBRATION}
    assert plain.calibration is None
    assert model.calibration is not None
    assert model.calibration.document == PLATT
    assert model.weights_sha256 == plain.weights_sha256
    other = read_model(calibrated(tmp_path / "other", sources, ISOTONIC))
    assert len({plain.tag, model.tag, other.tag}) == 3
    assert {len(one.tag) for one in (plain, model, other)} == {12}
    assert plain.tag == plain.weights_sha256[:12]


def test_a_changed_calibration_is_refused(tmp_path: Path, sources: dict[str, Path]) -> None:
    """Changed, missing, or not of this model: the error names the file."""
    folder = calibrated(tmp_path, sources, PLATT)
    (folder / CALIBRATION).write_text(json.dumps(ISOTONIC))
    with pytest.raises(ModelError, match=r"calibration\.json: expected sha256"):
        read_model(folder)
    (folder / CALIBRATION).unlink()
    with pytest.raises(ModelError, match=r"calibration\.json does not exist"):
        read_model(folder)
    cells = {"home/click": {"a": 1.0, "b": 0.0}}
    folder = calibrated(tmp_path / "of another", sources, {"kind": "platt", "cells": cells})
    with pytest.raises(ModelError, match=r"calibration\.json is no calibration of this model .*home"):
        read_model(folder)


def test_rounded_embeddings_are_stored_and_read_as_bfloat16(tmp_path: Path, sources: dict[str, Path]) -> None:
    """Half of the bytes; the network that is read gives the logits of the rounded one, close to those of float32."""
    rows = random_rows(Encoder.read(sources["encoder"]).layout, 20)
    (plain, exact), (half, network) = (written(tmp_path / str(one), sources, rounded=one) for one in (False, True))
    read = read_model(half).network
    assert read.embedding.weight.dtype == torch.bfloat16
    assert torch.equal(read(*rows), network.eval()(*rows))
    torch.testing.assert_close(read(*rows), exact.eval()(*rows), atol=0.02, rtol=0.02)
    saved = (plain / WEIGHTS).stat().st_size - (half / WEIGHTS).stat().st_size
    assert saved == pytest.approx(2 * read.embedding.weight.numel(), abs=64)  # the header names the type
