"""Types of params.yaml. Strict: an unknown key or a wrong value is an error that names it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict

import pydantic
from pydantic import Field

from common.errors import ParameterError
from common.params_section import LARGEST, Day, Days, FilePath, Hours, Positive, Section, Seed, Share
from common.paths import PARAMS
from common.serve_params import Feedback, Release, Serve
from common.train_params import Train
from common.yaml_file import line_of, read_utf8, read_yaml

LONGEST_SHOWN = 120  # letters of a wrong value that the message has


SOURCE = r"^(simulation|movielens-1m|kuairand-pure|tenrec-qk-video|declared|feedback|\w+(\.\w+)+)$"  # or an import path


class Shift(Section):
    """The shift that the embedded simulation contains: see features/datasets/simulation/shifts.py."""

    kind: Literal[
        "none", "covariate", "mix", "new_items", "missing", "unit", "swapped", "conversion", "taste", "season"
    ]
    from_day: Positive
    scenario: Literal["home_feed", "search", "channel", "flash_sale", "nearby", "late_night"]


class Simulation(Section):
    """Size and seed of the embedded simulation, what it contains on request, and its shift."""

    impressions: Positive
    users: Positive
    items: Positive
    days: Annotated[Days, Field(ge=3)]
    start: Day  # text in the YAML: DVC knows no dates
    seed: Seed
    world_seed: Seed | None = None
    image_length: Annotated[int, Field(ge=0, le=4096)] = 0
    position_effect: Annotated[float, Field(ge=0, le=5)] = 0
    session_effect: Annotated[float, Field(ge=0, le=5)] = 0
    watch_time: bool = False
    shift: Shift

    @pydantic.model_validator(mode="after")
    def _check_first_day(self) -> Self:
        """A shift that begins after the last day would have no effect."""
        if self.shift.kind not in ("none", "season") and self.shift.from_day > self.days:
            raise ValueError(f"shift.from_day must be one of the {self.days} days, found {self.shift.from_day}")
        return self


class KuaiRand(Section):
    """Which tabs of KuaiRand-Pure are scenarios, and which of its logs are read."""

    scenarios: Annotated[list[str], Field(min_length=1)]
    logs: Annotated[list[Literal["standard", "random"]], Field(min_length=1)]


class Tenrec(Section):
    """Which column of Tenrec's QK-video is the scenario, with which values, and how many negatives are sampled."""

    scenario: Literal["video_category", "gender", "age"]
    scenarios: Annotated[list[str], Field(min_length=1)]
    negatives_per_click: Annotated[float, Field(ge=0)]
    seed: Seed


class Dataset(Section):
    """Which log is read, and from where."""

    name: Annotated[str, Field(pattern=SOURCE)]  # see features/datasets/__init__.py
    path: FilePath
    until: Day | None
    simulation: Simulation
    kuairand_pure: KuaiRand = Field(alias="kuairand-pure")
    tenrec_qk_video: Tenrec = Field(alias="tenrec-qk-video")


class Validate(Section):
    """Share of broken rows that the quality gate tolerates, and the last day (UTC) of an event."""

    tolerance: Share
    not_after: Day | None


class Engine(Section):
    """Who runs the data stages, and where Spark runs: see features/engine/engines.py."""

    name: Literal["duckdb", "spark"]
    master: Annotated[str, Field(min_length=1)]
    storage: Annotated[str, Field(pattern=r"^(file:///|s3a?://[^/]).*[^/]$")] | None = None
    conf: dict[str, str | bool | int | float]


class SessionFeatures(Section):
    """Features of a user's newest events: how many, the windows in which they are counted, and when they are seen."""

    events: Annotated[int, Field(ge=0, le=1000)]
    recent_items: Positive = 10
    windows_seconds: list[Positive] = Field(default=[300, 3600, 86_400])
    lag_seconds: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    outcome_delay_seconds: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    compared_columns: list[str] = Field(default_factory=list)


class Aggregate(Section):
    """Daily statistics: windows in days, smoothing, length of the history, delay."""

    windows: list[Days]
    prior_impressions: Annotated[float, Field(ge=0)]
    recent_items: Positive
    delay_minutes: Annotated[int, Field(ge=0, le=10_000_000)]
    session: SessionFeatures = SessionFeatures(events=0)


class Materialize(Section):
    """How far before its watermark the incremental materialization looks for late rows."""

    overlap_hours: Annotated[Hours, Field(ge=0)]


class Join(Section):
    """How impressions are split into train, valid and test."""

    split: Literal["time", "random"]
    valid_share: Annotated[float, Field(gt=0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0, lt=0.5)]
    seed: Seed


class TableLimits(TypedDict):
    """What bounds the tables, by table: see Encode."""

    maximum_values: dict[str, int]
    hash_buckets: dict[str, int]


class Encode(Section):
    """The inputs of the model, and which values get an embedding of their own: by table where it has very many."""

    minimum_count: Positive
    sources: Annotated[list[Literal["impression", "profile", "statistics"]], Field(min_length=1)]
    maximum_values: dict[str, Positive | None] = Field(default={})
    hash_buckets: dict[str, Annotated[int, Field(ge=0, le=LARGEST)]] = Field(default={})

    @property
    def tables(self) -> TableLimits:
        """The limits and hash buckets that are set, by table: what fit_encoder takes."""
        limits = {table: limit for table, limit in self.maximum_values.items() if limit is not None}
        return {"maximum_values": limits, "hash_buckets": self.hash_buckets}


class Inspect(Section):
    """Tolerances of the quality gates of training set, tensors and online store, and the size of their sample."""

    missing_view_share: Share
    outdated_days: Annotated[float, Field(gt=0)]
    unknown_share: Share
    sample: Positive


class Evaluate(Section):
    """Bins of calibration and level of the confidence intervals."""

    bins: Annotated[int, Field(ge=2)]
    confidence: Annotated[float, Field(gt=0, lt=1)]


class Limits(Section):
    """The limits of a statistic for the verdicts watch and act."""

    watch: Annotated[float, Field(gt=0)]
    act: Annotated[float, Field(gt=0)]


class Drift(Section):
    """Limits beyond which a difference between two windows is a finding: see monitoring/detection/verdict.py."""

    significance: Share
    fewest_rows: Positive
    scored_rows: Positive
    psi: Limits
    missing: Limits
    unknown: Limits
    out_of_range: Limits
    fresh: Limits
    mix: Limits
    volume: Limits
    label_rate: Limits
    score: Limits
    calibration: Limits
    ranking: Limits


class Flows(Section):
    """The Prefect block that is notified, and the deployment that a verdict of act starts: see flows/."""

    notify: Annotated[str, Field(pattern="^[^/]+/[^/]+$")] | None
    on_act: Annotated[str, Field(pattern="^[^/]+/[^/]+$")]


class Params(Section):
    """The whole of params.yaml."""

    dataset: Dataset
    engine: Engine
    validation: Validate = Field(alias="validate")  # `validate` is a method of pydantic's own
    aggregate: Aggregate
    materialize: Materialize
    join: Join
    encode: Encode
    inspect: Inspect
    train: Train
    evaluate: Evaluate
    drift: Drift
    serve: Serve
    feedback: Feedback
    release: Release
    flows: Flows


def load(path: Path = PARAMS) -> Params:
    """The parameters in `path`; raises ParameterError that names file, line and rule of each fault."""
    plain = read_yaml(path)
    try:
        return Params.model_validate(plain)
    except pydantic.ValidationError as error:
        text = read_utf8(path)
        faults = (_fault(text, fault) for fault in error.errors(include_url=False))
        raise ParameterError("\n".join([f"{path} has wrong values:", *faults])) from None


def _fault(text: str, fault: Any) -> str:
    """Line, dotted name, rule and value of a fault."""
    where = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"  {where}: {fault['msg']}"
    return f"  line {line_of(text, fault['loc'])}: {where}: {fault['msg']}, found {_shown(fault['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
