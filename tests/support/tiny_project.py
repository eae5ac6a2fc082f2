"""A tiny project after the whole pipeline: what the service reads, laid out as in the root of the project."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from common import params
from features.encode import encode
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors, write_tensors
from features.join import join
from features.materialize import materialize
from features.schema import Schema, read_schema
from features.summarize import summarize
from models.evaluation.reference_profile import measure_profile
from models.model_folder import build_network, write_model
from models.training.configuration import arguments_of
from serving import service
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from tests.support import world

MODEL, ONLINE = Path("artifacts/models/hinet_plus"), Path("artifacts/online.db")


def build(
    root: Path,
    *,
    rows: int = 600,
    tables: dict[str, pd.DataFrame] | None = None,
    declared: Schema | None = None,
    **changes: object,
) -> Path:
    """Every stage from validated events to a model of random weights, under `root`; returns it.

    Without `tables` and their declaration, from `rows` events of the tiny world.
    """
    data, artifacts = root / "data", root / "artifacts"
    data.mkdir(parents=True)
    world.write_features(data, tables or world.tables(rows=rows), declared, **changes)
    world.write_params(root, encode__minimum_count=2, **changes)
    features, views, schema = data / "features", data / "features" / "views.json", data / "schema.json"
    materialize(schema=schema, features=features, online=root / ONLINE)
    with contextlib.chdir(root):
        join(schema=schema, validated=data / "validated", features=features, out=data / "training")
        encode(
            schema=schema,
            views=views,
            training=data / "training",
            encoder=artifacts / "encoder.parquet",
            out=data / "tensors",
        )
        reference = artifacts / "reference.json"
        summarize(schema=schema, encoder=artifacts / "encoder.parquet", training=data / "training", out=reference)
        write_random_model(
            root / MODEL,
            schema=schema,
            views=views,
            encoder=artifacts / "encoder.parquet",
            reference=reference,
            valid=data / "tensors" / "valid",
        )
    return root


def write_random_model(
    folder: Path, *, schema: Path, views: Path, encoder: Path, reference: Path, valid: Path, seed: int = 0
) -> None:
    """A HiNet of random weights, large enough that its probabilities differ."""
    layout, settings, declared = Encoder.read(encoder).layout, params.load().train, read_schema(schema)
    arguments = arguments_of("hinet_plus", layout, declared.tasks, settings)
    torch.manual_seed(seed)
    network = build_network("hinet_plus", arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.22)
    profile = measure_profile(network, open_tensors(valid), Encoder.read(encoder), declared)
    write_model(
        folder,
        model_name="hinet_plus",
        network=network,
        arguments=arguments,
        summary={},
        curves=[],
        profile=profile,
        schema=schema,
        views=views,
        encoder=encoder,
        reference=reference,
    )


def write_model_of(encoder: Encoder, project: Path, root: Path, *, seed: int = 0) -> Path:
    """A random model with another encoder than that of `project`, in `root`; the model folder."""
    encoder.write(root / "encoder.parquet")
    write_tensors(encoder, world.schema(), project / "data/training/valid.parquet", root / "valid")
    shutil.copyfile(project / "params.yaml", root / "params.yaml")
    with contextlib.chdir(root):
        write_random_model(
            root / "model",
            schema=project / "data/schema.json",
            views=project / "data/features/views.json",
            encoder=root / "encoder.parquet",
            reference=project / "artifacts/reference.json",
            valid=root / "valid",
            seed=seed,
        )
    return root / "model"


def with_read_timeout(root: Path, *, store: Mapping[str, Any] | None = None, **changes: Any) -> params.Serve:
    """The section `serve` of a project with changes; by default with a read timeout for a busy machine."""
    plain = params.load(root / "params.yaml").serve.model_dump()
    timeout = {"timeout_ms": 10_000.0} | dict(store or {})
    return params.Serve(**plain | {"store": plain["store"] | timeout} | changes)


def ranker(root: Path, registry: Path, **changes: Any) -> Ranker:
    """A ranker with the model and the stores of a project, and changes of its settings."""
    return open_ranker(ModelSources(root / MODEL, root / ONLINE, registry), with_read_timeout(root, **changes))


@contextlib.contextmanager
def open_client(project: Path) -> Iterator[Any]:
    """A client of the service on `project`, in this process; the state of another one is restored afterwards."""
    with pytest.MonkeyPatch.context() as patch, restored_service():
        patch.setattr(service, "serve_params", lambda: with_read_timeout(project))
        patch.setenv("BENTOML_HOME", str(project / "bentoml"))
        patch.setenv("HINET_MODEL", str(project / MODEL))
        patch.setenv("HINET_ONLINE_STORE", str(project / ONLINE))
        with _client() as opened:
            yield opened


@contextlib.contextmanager
def restored_service() -> Iterator[None]:
    """Restore what a service changes in this process, where another one may be open: its paths and its methods."""
    before, methods = dict(vars(service.api)), service.RankingService.apis  # type: ignore[attr-defined]
    specs = {name: method.input_spec for name, method in methods.items()}
    try:
        yield
    finally:
        vars(service.api).update(before)
        for name, spec in specs.items():
            methods[name].input_spec = spec


def _client() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # starlette's on httpx, pydantic's on BentoML
        from starlette.testclient import TestClient

        from serving.service import RankingService

        return TestClient(RankingService.to_asgi(), raise_server_exceptions=False)
