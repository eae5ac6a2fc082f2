"""The ranking service: `bentoml serve` in the root of the project, or in a bento, answers POST /rank.

This file is BentoML's part: what is opened at the start, and from which files. The HTTP paths are in
serving/http/routes.py, what precedes them in serving/http/middleware.py, the feature path in
serving/ranking/feature_client.py, the model path in serving/ranking/ranker.py.
"""

import gc
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException

from common import params
from common.errors import ModelError, ParameterError, PipelineError
from common.paths import PARAMS, ROOT
from common.serve_params import Serve
from common.settings import Settings, read_settings, variable
from features.schema import Schema, read_schema, read_views
from serving.bento.image import container_image
from serving.bento.manifest import check_manifest
from serving.bento.preflight import check_challenger, check_sources
from serving.http.descriptors import (
    ANY_BATCH,
    ANY_RANK,
    MODEL,
    RANKING,
    RANKINGS,
    UNSET,
    batch_argument,
    rank_arguments,
)
from serving.http.graceful_stop import GracefulStop
from serving.http.methods import call
from serving.http.middleware import ApiMiddleware
from serving.http.protocol import use_bounded_protocol
from serving.http.routes import RankingApi
from serving.ranking.ab_split import ab_settings
from serving.ranking.model_sources import ModelSources, released_store
from serving.ranking.request import RankRequest, example_request, request_type
from serving.ranking.request_values import TEXT, text_limit
from serving.shadow.client import open_shadow, shadow_settings

SHADOW_SECONDS = 0.5  # for what waits for the shadow model when the service stops
WARM_UP: tuple[dict[str, Any], ...] = ({}, {}, {"candidates": "all"}, {"explain": True}) * 5  # changes of the example

api = RankingApi()


def _workers() -> int:
    """HINET_WORKERS; 1 where the environment is wrong, which `check` reports before any worker starts."""
    try:
        return read_settings().workers
    except ParameterError:
        return 1


@bentoml.service(
    name="hinet",
    workers=_workers(),
    http={"host": "127.0.0.1"},
    metrics={"enabled": False},  # they have a series per requested path; ours: serving/telemetry/prometheus.py
    logging={"access": {"enabled": False}},  # /metrics counts the requests; a line for each is expensive
    tracing={"excluded_urls": ".*"},  # ours: serving/telemetry/tracing.py
    envs=[{"name": "OMP_NUM_THREADS", "value": "1"}],
    image=container_image(),
)
class RankingService:
    """Ranks items by what HiNet expects of them, for one user in one scenario."""

    def __init__(self) -> None:
        """Load model and items, open the online store and warm up, so that a ready worker is not slow.

        From then on a changed model or snapshot is taken into use.
        """
        # feast and torch take seconds to import: not in the process that only watches the workers
        from serving.http.event_intake import open_intake
        from serving.http.model_info import describe_model
        from serving.ranking.ab_test import ABRanker, open_challenger
        from serving.ranking.hot_reload import Reloader
        from serving.ranking.ranker import open_ranker
        from serving.telemetry.impression_log import open_impression_log
        from serving.telemetry.prometheus import ServiceMetrics
        from serving.telemetry.tracing import open_tracing

        warnings.filterwarnings("ignore", category=DeprecationWarning, module="_bentoml_sdk")  # Feast shows them
        settings, serve = read_settings(), serve_params()
        self.scratch = TemporaryDirectory(prefix="hinet-")
        sources = model_sources(settings, registry=Path(self.scratch.name) / "registry.db")
        ranker = self.ranker = open_ranker(sources, serve)
        known = [*ranker.loaded.model.encoder.vocabularies.values(), ranker.loaded.catalogue.ids]
        text = text_limit(known)
        schema, accepted = accepted_requests(settings, text=text)
        requests = [accepted(**example_request(schema) | changes) for changes in WARM_UP]
        ranker.warm_up(ranker.loaded, requests)
        views = ranker.loaded.model.views
        self.events = open_intake(schema, views, sources, limit=serve.limits.events, text=text)
        self.log = open_impression_log(serve.log, ROOT, settings.impression_log)
        self.tracing = open_tracing(serve.tracing)
        shadow = shadow_settings(serve.shadow, settings)
        self.shadow = open_shadow(shadow, ROOT, sources=sources)
        self.reloader = Reloader(ranker, sources, serve)
        metrics = ServiceMetrics(schema.scenarios, self.log, self.reloader, self.shadow)
        observers = (self.log, self.shadow, metrics, self.tracing)
        ranker.observers += [observer for observer in observers if observer is not None]
        self.reloader.start()
        test, registry = ab_settings(serve.ab, settings), Path(self.scratch.name) / "challenger.db"
        challenger = self.challenger = open_challenger(ranker, sources, serve, test, root=ROOT, registry=registry)
        if challenger is not None:
            challenger.start(requests)
        api.open(
            ranker if challenger is None else ABRanker(ranker, challenger),
            accepted,
            serve,
            model_info=lambda: describe_model(ranker.loaded, serve.limits, challenger),
            key=settings.api_key,
            metrics=metrics,
            tracing=self.tracing,
            events=self.events,
        )
        describe_methods(accepted, serve)
        GracefulStop(api).install()
        freeze_gc()

    @bentoml.api(input_spec=ANY_RANK, output_spec=RANKING)  # type: ignore[untyped-decorator]
    async def rank(self, **request: Any) -> dict[str, Any]:
        """Rank items for one user in one scenario: POST /rank, whose fields are the arguments."""
        given = {name: value for name, value in request.items() if value is not UNSET}
        ranking: dict[str, Any] = await call(api, "rank", given)
        return ranking

    @bentoml.api(input_spec=ANY_BATCH, output_spec=RANKINGS)  # type: ignore[untyped-decorator]
    async def rank_batch(self, requests: list[dict[str, Any]], /) -> list[dict[str, Any]]:
        """Rank for several users, answers in order: POST /rank_batch."""
        rankings: list[dict[str, Any]] = await call(api, "rank_batch", requests)
        return rankings

    @bentoml.api(output_spec=MODEL)  # type: ignore[untyped-decorator]
    async def model(self) -> dict[str, Any]:
        """Which model answers, and what a request may name: POST /model, the same as GET."""
        model: dict[str, Any] = await call(api, "model", {})
        return model

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Write what is not written yet, and remove the scratch folder."""
        api.close()
        self.reloader.close()
        if self.challenger is not None:
            self.challenger.close()
        self.ranker.loaded.users.close()
        if self.shadow is not None:
            self.shadow.close(SHADOW_SECONDS)
        for part in (self.log, self.tracing, self.events):
            if part is not None:
                part.close()
        self.scratch.cleanup()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Report what is wrong once, before any worker starts; otherwise worker after worker would fail."""
        try:
            settings = read_settings()
            check_manifest(ROOT)
            serve = serve_params()
            shadow_settings(serve.shadow, settings)
            notes = [check_sources(model_sources(settings, registry=Path()))]
            notes += [check_challenger(ab_settings(serve.ab, settings), ROOT)]
            accepted_requests(settings)
        except (PipelineError, OSError) as error:
            raise BentoMLException(str(error)) from None
        for note in filter(None, notes):
            print(note, file=sys.stderr, flush=True)


RankingService.add_asgi_middleware(ApiMiddleware, api=api)  # type: ignore[attr-defined]
use_bounded_protocol()


def describe_methods(accepted: type[RankRequest], serve: Serve) -> None:
    """Let /schema.json, which BentoML's clients are made from, describe the requests of this model."""
    methods = RankingService.apis  # type: ignore[attr-defined]
    methods["rank"].input_spec = rank_arguments(accepted)
    methods["rank_batch"].input_spec = batch_argument(accepted, serve)


def freeze_gc() -> None:
    """Exclude the present objects from garbage collection: with 340,000 of them it pauses for 0.2 s."""
    gc.collect()
    gc.freeze()


def accepted_requests(settings: Settings, *, text: int = TEXT) -> tuple[Schema, type[RankRequest]]:
    """The schema of the model and the type of the requests for it, with texts of at most `text` characters.

    Raises ModelError, ParameterError.
    """
    folder = model_folder(settings)
    schema = read_schema(folder / "schema.json")
    return schema, request_type(schema, serve_params(), read_views(folder / "views.json"), text=text)


def serve_params() -> Serve:
    """The section `serve` of params.yaml; raises ParameterError."""
    return params.load(ROOT / PARAMS).serve


def model_folder(settings: Settings) -> Path:
    """The folder of the model; raises ModelError where it does not exist."""
    return _existing(ROOT / settings.model, "model")


def model_sources(settings: Settings, *, registry: Path) -> ModelSources:
    """The model folder and the online store; raises ModelError where one does not exist.

    With Redis the file of the store need not exist: its path only names the folder of the item snapshot. Nor need it
    where the release of the model has a store of its own.
    """
    model, online = model_folder(settings), ROOT / settings.online_store
    if settings.redis is None and released_store(model.resolve()) is None:
        _existing(online, "online_store")
    return ModelSources(model, online, registry, settings.redis, ROOT / settings.events)


def _existing(path: Path, field: str) -> Path:
    if not path.exists():
        raise ModelError(f"{path} does not exist: run `dvc repro`, or set {variable(field)} to where it is")
    return path
