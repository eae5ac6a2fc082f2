"""Types of params.yaml. Strict: an unknown key or a wrong value is an error that names it."""

import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from common.errors import ParameterError

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Units = Annotated[list[Positive], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Change(_Section):
    """What is planted in the embedded simulation, and when: see features/datasets/simulation/shifts.py."""

    kind: Literal[
        "none", "covariate", "mix", "new_items", "missing", "unit", "swapped", "conversion", "taste", "season"
    ]
    from_day: Positive
    scenario: Literal["home_feed", "search", "channel", "flash_sale", "nearby", "late_night"]


class Simulation(_Section):
    """Size and seed of the embedded simulation, and a change within it."""

    impressions: Positive
    users: Positive
    items: Positive
    days: Annotated[int, Field(ge=3)]
    start: datetime.date = Field(strict=False)  # text in the YAML: DVC knows no dates
    seed: int
    change: Change

    @pydantic.model_validator(mode="after")
    def _happens(self) -> Self:
        """A change that begins after the last day would be found by nobody."""
        if self.change.kind not in ("none", "season") and self.change.from_day > self.days:
            raise ValueError(f"change.from_day must be one of the {self.days} days, found {self.change.from_day}")
        return self


class KuaiRand(_Section):
    """Which tabs of KuaiRand-Pure are scenarios, and which of its logs are read."""

    scenarios: Annotated[list[str], Field(min_length=1)]
    logs: Annotated[list[Literal["standard", "random"]], Field(min_length=1)]


class Tenrec(_Section):
    """Which column of Tenrec's QK-video is the scenario, with which values, and how many negatives are sampled."""

    scenario: Literal["video_category", "gender", "age"]
    scenarios: Annotated[list[str], Field(min_length=1)]
    negatives_per_click: Annotated[float, Field(ge=0)]
    seed: int


class Dataset(_Section):
    """Which log is read, and from where."""

    name: Literal["simulation", "movielens-1m", "kuairand-pure", "tenrec-qk-video"]
    path: str
    until: datetime.date | None = Field(strict=False)
    simulation: Simulation
    kuairand_pure: KuaiRand = Field(alias="kuairand-pure")
    tenrec_qk_video: Tenrec = Field(alias="tenrec-qk-video")


class Validate(_Section):
    """How much of a table may be broken, and the last day (UTC) on which an event may lie."""

    tolerance: Share
    not_after: datetime.date | None = Field(strict=False)


class Aggregate(_Section):
    """Daily statistics: windows in days, smoothing, length of the history, delay."""

    windows: list[Positive]
    prior_impressions: Annotated[float, Field(ge=0)]
    recent_items: Positive
    delay_minutes: Annotated[int, Field(ge=0)]


class Materialize(_Section):
    """How far before its watermark an online store in use is looked through for rows that came late."""

    overlap_hours: Annotated[float, Field(ge=0)]


class Join(_Section):
    """How impressions are split into train, valid and test."""

    split: Literal["time", "random"]
    valid_share: Annotated[float, Field(gt=0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0, lt=0.5)]
    seed: int


class Encode(_Section):
    """What the model may see, and from how many sightings on a value has a row of its own."""

    minimum_count: Positive
    sources: Annotated[list[Literal["impression", "profile", "statistics"]], Field(min_length=1)]


class Inspect(_Section):
    """What the borders behind the gate accept: shares of rows and values, days, and entities that are compared."""

    missing_view_share: Share
    stale_days: Annotated[float, Field(gt=0)]
    unknown_share: Share
    sample: Positive


class HiNetUnits(_Section):
    """Shape of HiNet: see models/networks/hinet.py."""

    sub_experts: Positive
    expert_units: Units
    task_experts: Positive
    shared_experts: Positive
    task_expert_units: Units
    tower_units: Units
    scenario_width: Positive
    scenario_heads: bool
    embedding_sets: Positive
    interactions: list[Literal["fm", "cross"]]
    cross_layers: Positive
    normalize: bool
    detach_gates: bool
    scenario_view: list[Positive]
    dropout: Share
    scenario_attention: bool
    hierarchy: bool

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        """What no network can be made of is refused here, before any data are read."""
        if len(self.scenario_view) == 1:
            raise ValueError(f"scenario_view needs two widths or more, or none: [], found {self.scenario_view}")
        if self.scenario_view and self.embedding_sets > 1:
            raise ValueError(
                "embedding_sets are read apart, and a scenario_view joins them: use one of the two, "
                f"found embedding_sets {self.embedding_sets} and scenario_view {self.scenario_view}"
            )
        if self.hierarchy and self.sub_experts % self.embedding_sets:
            raise ValueError(
                "sub_experts must be a multiple of embedding_sets, each of which is read by its share of them, "
                f"found {self.sub_experts} and {self.embedding_sets}"
            )
        return self


class SharedBottomUnits(_Section):
    """Shape of the shared bottom: see models/peers/baselines.py."""

    bottom_units: Units
    tower_units: Units


class PerceptronUnits(_Section):
    """Shape of the shared perceptron, or of each scenario's: see models/peers/baselines.py."""

    units: Units


class MMoEUnits(_Section):
    """Shape of MMoE: see models/peers/mixtures.py."""

    experts: Positive
    expert_units: Units
    tower_units: Units
    scenario_heads: bool


class PLEUnits(_Section):
    """Shape of PLE: see models/peers/mixtures.py."""

    levels: Positive
    task_experts: Positive
    shared_experts: Positive
    expert_units: Units
    tower_units: Units
    scenario_heads: bool


class STARUnits(_Section):
    """Shape of STAR: see models/peers/adaptive.py."""

    units: Units
    auxiliary_units: Units
    scenario_width: Positive
    partitioned_norm: bool


class PEPNetUnits(_Section):
    """Shape of PEPNet: see models/peers/adaptive.py."""

    units: Units
    gate_units: Positive
    scenario_width: Positive


class M3oEUnits(_Section):
    """Shape of M3oE: see models/peers/mixtures.py."""

    star_units: Annotated[list[Positive], Field(min_length=2)]
    experts: Positive
    expert_units: Units
    tower_units: Units


class Train(_Section):
    """Optimisation, and the shape of each model."""

    seed: int
    epochs: Positive
    patience: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    table_weight_decay: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    average: Share
    unknown_share: Share
    clip_gradient_norm: Annotated[float, Field(ge=0)]
    lazy_tables: bool
    precision: Literal["float32", "bfloat16"]
    capture: bool
    checkpoint_seconds: Annotated[float, Field(ge=0)]
    processes: Positive
    embedding_width: Positive
    task_weights: dict[str, Annotated[float, Field(ge=0)]]
    device: Literal["auto", "cpu", "cuda"]
    hinet: HiNetUnits
    shared_bottom: SharedBottomUnits
    mlp_per_scenario: PerceptronUnits
    shared_mlp: PerceptronUnits
    mmoe: MMoEUnits
    ple: PLEUnits
    star: STARUnits
    pepnet: PEPNetUnits
    m3oe: M3oEUnits


class Evaluate(_Section):
    """Bins of calibration and level of the confidence intervals."""

    bins: Annotated[int, Field(ge=2)]
    confidence: Annotated[float, Field(gt=0, lt=1)]


class Limits(_Section):
    """From where on a statistic is to be watched, and from where on to be acted upon."""

    watch: Annotated[float, Field(gt=0)]
    act: Annotated[float, Field(gt=0)]


class Drift(_Section):
    """What makes a difference between two windows a finding: see monitoring/detection/verdict.py."""

    significance: Share
    fewest_rows: Positive
    scored_rows: Positive
    psi: Limits
    missing: Limits
    unknown: Limits
    out_of_range: Limits
    fresh: Limits
    mix: Limits
    label_rate: Limits
    score: Limits
    calibration: Limits
    ranking: Limits


class ServeLog(_Section):
    """What is kept of the requests, and where: see serving/telemetry/impression_log.py."""

    folder: str | None
    sample: Annotated[float, Field(gt=0, le=1)]
    rows_per_file: Positive
    seconds: Annotated[float, Field(gt=0)]


class ServeLimits(_Section):
    """What a request may ask for, and what a worker takes on at once: see serving/http/limits.py."""

    candidates: Positive
    batch: Positive
    body_bytes: Positive
    concurrent: Positive
    seconds: Annotated[float, Field(gt=0)]


class ServeTracing(_Section):
    """Where spans go, if anywhere, and of which share of the rankings: see serving/telemetry/tracing.py."""

    exporter: Literal["console", "otlp"] | None
    sample: Annotated[float, Field(gt=0, le=1)]


class ServeStore(_Section):
    """How long the online store is waited for, when it is given up and tried again, how many users are remembered."""

    timeout_ms: Annotated[float, Field(gt=0)]
    failures: Positive
    pause_seconds: Annotated[float, Field(gt=0)]
    remembered_users: Annotated[int, Field(ge=0)]


class ServeShadow(_Section):
    """A second model that is asked and not heard: see serving/shadow/client.py."""

    model: str | None
    share: Annotated[float, Field(gt=0, le=1)]
    folder: str | None


class Serve(_Section):
    """Default weights of the tasks, limits of requests, ages and memory, the store, the log, and traces."""

    objective: dict[str, Annotated[float, Field(ge=0)]]
    limits: ServeLimits
    stale_hours: Annotated[float, Field(gt=0)] | None
    shares_megabytes: Annotated[float, Field(ge=0)]
    reload_seconds: Annotated[float, Field(gt=0)]
    store: ServeStore
    log: ServeLog
    tracing: ServeTracing
    shadow: ServeShadow


class Release(_Section):
    """What a challenger is held to, and how much is kept: see release/policy.py."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    minimum_gain: Annotated[float, Field(ge=-1, lt=1)]
    guard: Share
    calibration: Annotated[float, Field(gt=1)]
    sample: Positive
    keep: Annotated[int, Field(ge=2)]
    branch: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Flows(_Section):
    """Who is told, by the name of a Prefect block, and which deployment is started: see flows/."""

    notify: Annotated[str, Field(pattern="^[^/]+/[^/]+$")] | None
    on_act: Annotated[str, Field(pattern="^[^/]+/[^/]+$")]


class Params(_Section):
    """The whole of params.yaml."""

    dataset: Dataset
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
    release: Release
    flows: Flows


def load(path: Path = Path("params.yaml")) -> Params:
    """The parameters in `path`; raises ParameterError that names each unknown key or wrong value."""
    if not path.is_file():
        raise ParameterError(f"{path.absolute()} does not exist: run from the folder of the project")
    try:
        return Params.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not YAML: {error}") from error
    except pydantic.ValidationError as error:
        faults = (f"  {'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors())
        raise ParameterError("\n".join([f"{path} has wrong values:", *faults])) from error
