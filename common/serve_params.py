"""Types of the sections `serve`, `feedback` and `release` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from common.params_section import FilePath, Hours, Positive, Section, Share


class ServeLog(Section):
    """The scored-impression log: folder, sampled share, size of a file. See serving/telemetry/impression_log.py."""

    folder: FilePath | None
    sample: Annotated[float, Field(gt=0, le=1)]
    rows_per_file: Positive
    seconds: Annotated[float, Field(gt=0)]


class ServeLimits(Section):
    """Limits of a request and of a worker's load: see serving/http/limits.py."""

    candidates: Positive
    batch: Positive
    events: Positive
    body_bytes: Positive
    concurrent: Positive
    seconds: Annotated[float, Field(gt=0)]


class ServeTracing(Section):
    """Exporter of the OpenTelemetry spans, and the sampled share: see serving/telemetry/tracing.py."""

    exporter: Literal["console", "otlp"] | None
    sample: Annotated[float, Field(gt=0, le=1)]


class ServeStore(Section):
    """Timeout and circuit breaker of the online store, and how many users' last features are cached."""

    timeout_ms: Annotated[float, Field(gt=0)]
    failures: Positive
    pause_seconds: Annotated[float, Field(gt=0)]
    remembered_users: Annotated[int, Field(ge=0)]


class ServeShadow(Section):
    """The shadow model, whose answers are compared and never given: see serving/shadow/client.py."""

    model: FilePath | None
    share: Annotated[float, Field(gt=0, le=1)]
    folder: FilePath | None


class ServeAB(Section):
    """The A/B test: the folder of the challenger, its share of the users, the salt of the draw, its time limit."""

    challenger: FilePath | None
    share: Annotated[float, Field(gt=0, le=1)]
    salt: Annotated[str, Field(min_length=1, max_length=100)]
    timeout_ms: Annotated[float, Field(gt=0)]


class Serve(Section):
    """Default objective, limits, cache size, reload interval, online store, log, tracing, shadow model, A/B test."""

    objective: dict[str, Annotated[float, Field(ge=0)]]
    limits: ServeLimits
    outdated_hours: Annotated[Hours, Field(gt=0)] | None
    partial_activations_megabytes: Annotated[float, Field(ge=0)]
    reload_seconds: Annotated[float, Field(gt=0)]
    store: ServeStore
    log: ServeLog
    tracing: ServeTracing
    shadow: ServeShadow
    ab: ServeAB


class Release(Section):
    """The promotion policy, and how many releases are kept: see release/policy.py."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    minimum_gain: Annotated[float, Field(ge=-1, lt=1)]
    guard: Share
    calibration: Annotated[float, Field(gt=1)]
    sample: Positive
    keep: Annotated[int, Field(ge=2)]
    branch: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Feedback(Section):
    """How events become a log: the impression of each, when its labels are final, how features as served may differ."""

    match_minutes: Annotated[float, Field(ge=0, le=527_040)]
    outcome_hours: Annotated[Hours, Field(ge=0)]
    sample: Positive
    tolerance: Share
