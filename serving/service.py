"""The ranking service: `bentoml serve` in the root of the project, or of a bento, answers POST /rank.

This file is BentoML's part: what is read at the start, and from where. The paths are in serving/http/routes.py, what stands
before them in serving/http/middleware.py, the feature path in serving/ranking/feature_client.py, the model path in serving/ranking/ranker.py.
"""

import gc
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException

from common import params
from common.errors import ModelError, ParameterError, PipelineError
from common.paths import ROOT
from features.schema import Schema, read_schema, read_views
from serving.http.middleware import Front
from serving.http.routes import API
from serving.manifest import check_manifest
from serving.ranking.request import RankRequest, example, request_type
from serving.shadow.client import chosen_shadow, open_shadow

REDIS = "HINET_REDIS"  # host:port of the Redis that is the online store, if one is: see features/store/definitions.py
SOURCES = {"HINET_MODEL": "artifacts/models/hinet", "HINET_ONLINE_STORE": "artifacts/online.db"}
WARM_UP: tuple[dict[str, Any], ...] = ({}, {}, {"candidates": "all"}, {"explain": True}) * 5  # changes of the example
WORKERS = os.environ.get("HINET_WORKERS", "1")
FEWEST = 16  # letters of a key

api = API()


@bentoml.service(
    name="hinet",
    workers=int(WORKERS) if WORKERS.isdecimal() else 1,
    http={"host": "127.0.0.1"},
    metrics={
        "enabled": False
    },  # a series for each path that anybody asks for; ours are in serving/telemetry/prometheus.py
    logging={"access": {"enabled": False}},  # /metrics counts them; a line for each is dear
    tracing={"excluded_urls": ".*"},  # ours: serving/telemetry/tracing.py
    envs=[{"name": "OMP_NUM_THREADS", "value": "1"}],
)
class RankingService:
    """Ranks items by what HiNet expects of them, for one user in one scenario."""

    def __init__(self) -> None:
        """Read model and items, open the online store, answer requests of its own: ready is what is not slow any more.

        From then on another model or snapshot is taken into use when it is there.
        """
        # feast and torch take seconds: not in the process that only watches
        from serving.http.model_info import card_of
        from serving.ranking.hot_reload import Reloader
        from serving.ranking.loaded_model import Sources
        from serving.ranking.ranker import open_ranker
        from serving.telemetry.impression_log import open_log
        from serving.telemetry.prometheus import Metrics
        from serving.telemetry.tracing import open_tracing

        self.scratch = TemporaryDirectory(prefix="hinet-")
        chosen, registry = settings(), Path(self.scratch.name) / "registry.db"
        sources = Sources(source("HINET_MODEL"), online_store(), registry, os.environ.get(REDIS))
        ranker = self.ranker = open_ranker(sources, chosen)
        schema, accepted = accepted_requests()
        ranker.warm(ranker.state, [accepted(**example(schema) | more) for more in WARM_UP])
        self.log = ranker.log = open_log(chosen.log, ROOT, os.environ.get("HINET_SERVED_LOG"))
        self.tracing = open_tracing(chosen.tracing)
        asked = chosen_shadow(chosen.shadow)
        self.shadow = ranker.shadow = open_shadow(asked, ROOT, online=sources.online, redis=sources.redis)
        self.reloader = Reloader(ranker, sources, chosen)
        self.reloader.start()
        api.open(
            ranker,
            accepted,
            chosen,
            model=lambda: card_of(ranker.state, chosen.limits),
            key=key(),
            metrics=Metrics(schema.scenarios, self.log, self.reloader, self.shadow),
            tracing=self.tracing,
        )
        settle()

    @bentoml.on_shutdown
    def close(self) -> None:
        """Leave nothing behind, and nothing unwritten."""
        api.close()
        self.reloader.close()
        self.ranker.state.users.close()
        for what in (self.shadow, self.log, self.tracing):
            if what is not None:
                what.close()
        self.scratch.cleanup()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: say what is wrong, once, instead of letting worker after worker fail."""
        try:
            key()
            if not WORKERS.isdecimal() or WORKERS == "0":
                raise ParameterError(f"HINET_WORKERS must be a number of processes, 1 or more, found {WORKERS!r}")
            check_manifest(ROOT)
            chosen_shadow(settings().shadow)
            online_store()
            accepted_requests()
        except (PipelineError, OSError) as error:
            raise BentoMLException(str(error)) from None


RankingService.add_asgi_middleware(Front, api=api)  # type: ignore[attr-defined]


def settle() -> None:
    """Have the garbage collector never look again at what is there now: at 340,000 objects it pauses for 0.2 s."""
    gc.collect()
    gc.freeze()


def accepted_requests() -> tuple[Schema, type[RankRequest]]:
    """The schema of the model and the requests that it answers; raises ModelError, ParameterError."""
    folder = source("HINET_MODEL")
    schema = read_schema(folder / "schema.json")
    return schema, request_type(schema, settings(), read_views(folder / "views.json"))


def settings() -> params.Serve:
    """The section `serve` of the parameters; raises ParameterError."""
    return params.load(ROOT / "params.yaml").serve


def key() -> str | None:
    """The key that every request has to bring, HINET_API_KEY; None: nobody needs one. Raises ParameterError."""
    found = os.environ.get("HINET_API_KEY")
    if found is not None and (len(found) < FEWEST or not found.isascii() or " " in found):
        raise ParameterError(
            f"HINET_API_KEY must have {FEWEST} letters or more, ASCII without spaces: make one with "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`, or unset it'
        )
    return found


def online_store() -> Path:
    """Where the online store lies, or where it would: with Redis, only the item snapshot beside that place is there."""
    return source("HINET_ONLINE_STORE", there=os.environ.get(REDIS) is None)


def source(name: str, *, there: bool = True) -> Path:
    """Where the model or the online store lies: the environment variable `name`, else its place under the root.

    A relative path is relative to the root. Raises ModelError where nothing lies and something has to be `there`.
    """
    path = ROOT / os.environ.get(name, SOURCES[name])
    if there and not path.exists():
        raise ModelError(f"{path} does not exist: run `dvc repro`, or set {name} to where it is")
    return path
