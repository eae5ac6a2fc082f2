"""Every environment variable that the project reads."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import ParameterError
from common.paths import EVENTS, MODEL, ONLINE_STORE

PREFIX = "HINET_"
KEY_LENGTH = 16  # letters of an API key, at least
LEAST_MEMORY = 256_000_000  # bytes: with less DuckDB cannot sort the widest rows
CLUSTER = "redis+cluster://"  # before the nodes in HINET_REDIS
SECRETS = ("api_key", "redis", "feast_registry")  # fields that may hold one: their values are in no message
_BYTES = TypeAdapter(ByteSize)


def _check_key(key: str) -> str:
    if len(key) < KEY_LENGTH or not key.isascii() or " " in key:
        raise ValueError(
            f"expected {KEY_LENGTH} letters or more, ASCII without spaces: make one with "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`, or unset it'
        )
    return key


def _check_memory(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", text) or _BYTES.validate_python(text) < LEAST_MEMORY:
        raise ValueError("expected a size from 256MB on, such as 512MB, 8GB or 12GiB")
    return text


def _check_redis(address: str | None) -> str | None:
    if address is None:
        return None
    parts = address.removeprefix(CLUSTER).split(",")
    nodes = [part for part in parts if "=" not in part]
    if not nodes or not all(re.fullmatch(r"[^\s:/]+:\d+", node) for node in nodes):
        raise ValueError(f"expected host:port[,password=...], or {CLUSTER}host:port,host:port for a cluster")
    if len(nodes) > 1 and not address.startswith(CLUSTER):
        raise ValueError(f"expected one host:port, or {CLUSTER} before the nodes of a cluster, found {len(nodes)}")
    if address.startswith(CLUSTER) and any(part.startswith("db=") for part in parts):
        raise ValueError("expected no db=, for a cluster has one database only")
    return address


OptionalText = Annotated[str | None, BeforeValidator(lambda text: text or None)]  # an empty variable is unset
OptionalFolder = Annotated[Path | None, BeforeValidator(lambda text: text or None)]


class Settings(BaseSettings):
    """The environment of stages, service, online store and release; a relative path is under the project's root."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    model: Path = Field(default=MODEL, description="Folder of the model that the service ranks with")
    online_store: Path = Field(
        default=ONLINE_STORE, description="SQLite file of the online store; the item snapshot lies beside it"
    )
    events: Path = Field(
        default=EVENTS,
        description="Folder of the queue of `POST /events`, and of the sessions that its consumer keeps where no Redis "
        "does; service and consumer write there",
    )
    redis: Annotated[OptionalText, AfterValidator(_check_redis)] = Field(
        default=None,
        description="`host:port[,password=...]` of the Redis that replaces the SQLite file as online store; "
        f"`{CLUSTER}host:port,host:port[,password=...]` of a Redis Cluster, any of its nodes",
    )
    feast_registry: OptionalText = Field(
        default=None,
        description="`postgresql+psycopg://user:password@host/database` of Feast's registry, which the refresh keeps "
        "up; null: a file beside the store of `dvc repro`",
    )
    memory: Annotated[str, AfterValidator(_check_memory)] = Field(
        default="2GB",
        description="Memory of DuckDB in a stage, and of Spark's driver, such as `512MB` or `8GB`; what exceeds it is "
        "sorted on disk. Python, Arrow and the libraries need some 0.5 GB besides",
    )
    workers: int = Field(default=1, ge=1, description="Processes of the service")
    api_key: Annotated[str, AfterValidator(_check_key)] | None = Field(
        default=None,
        description="Required as `Authorization: Bearer KEY` by every path but the probes; "
        f"{KEY_LENGTH} letters or more",
    )
    impression_log: OptionalFolder = Field(
        default=None, description="Folder of the scored-impression log; overrides `serve.log.folder` of params.yaml"
    )
    shadow: OptionalFolder = Field(
        default=None, description="Folder of the shadow model; overrides `serve.shadow.model` of params.yaml"
    )
    shadow_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the requests that the shadow model gets; overrides `serve.shadow.share`",
    )
    shadow_log: OptionalFolder = Field(
        default=None, description="Folder in which the shadow's answers are kept; overrides `serve.shadow.folder`"
    )
    ab_challenger: OptionalFolder = Field(
        default=None, description="Folder of the challenger of an A/B test; overrides `serve.ab.challenger`"
    )
    ab_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the users whom the challenger answers; overrides `serve.ab.share`",
    )
    ab_salt: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Salt of the draw of these users: another one for each test; overrides `serve.ab.salt`",
    )
    ab_timeout_ms: float | None = Field(
        default=None,
        gt=0,
        description="Milliseconds after which the champion answers in place of the challenger; overrides "
        "`serve.ab.timeout_ms`",
    )

    @property
    def memory_bytes(self) -> int:
        """The number of bytes of `memory`."""
        return int(_BYTES.validate_python(self.memory))


def read_settings() -> Settings:
    """The settings of the environment as it is now; raises ParameterError, which names variable and rule."""
    try:
        return Settings()
    except ValidationError as error:
        broken = error.errors(include_url=False, include_context=False, include_input=True)[0]
        name = variable(str(broken["loc"][0]))
        value = "" if broken["loc"][0] in SECRETS else f", found {broken['input']!r}"
        raise ParameterError(f"{name}: {broken['msg'].removeprefix('Value error, ')}{value}") from None


def variable(field: str) -> str:
    """The environment variable of a field of Settings."""
    return f"{PREFIX}{field.upper()}"
