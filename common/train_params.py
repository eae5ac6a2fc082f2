"""Types of the section `train` of params.yaml: optimisation, and the shape of each network."""

from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from common.params_section import Days, FilePath, Positive, Section, Seed, Share, Units


class NetworkUnits(Section):
    """What the section of every network may have beside its shape.

    `interactions` and `cross_rank` are those of models/networks/interactions.py. `recipe` has values of params.train
    that hold for this network only.
    """

    interactions: list[Literal["fm"]] = Field(default_factory=list)
    cross_rank: Annotated[int, Field(ge=0)] = 0
    recipe: dict[str, Any] = Field(default_factory=dict)

    def shape(self) -> dict[str, Any]:
        """The fields of the network's config that are given here; interactions and cross only where there are some."""
        options = ("interactions", "cross_rank")
        return self.model_dump(exclude={"recipe"} | {name for name in options if not getattr(self, name)})


class HiNetUnits(NetworkUnits):
    """Shape of HiNet: see models/networks/hinet.py."""

    sub_experts: Positive
    expert_units: Units
    task_experts: Positive
    shared_experts: Positive
    task_expert_units: Units
    tower_units: Units
    scenario_width: Positive
    scenario_heads: bool
    scenario_view: list[Positive]
    scenario_attention: bool
    hierarchy: bool

    @pydantic.model_validator(mode="after")
    def _check_view(self) -> Self:
        """A shape of which no network can be made is refused here, before any data are read."""
        if len(self.scenario_view) == 1:
            raise ValueError(f"scenario_view needs two widths or more, or none: [], found {self.scenario_view}")
        return self


class SharedBottomUnits(NetworkUnits):
    """Shape of the shared bottom: see models/networks/shared_bottom.py."""

    bottom_units: Units
    tower_units: Units


class PerceptronUnits(NetworkUnits):
    """Shape of the shared perceptron, or of each scenario's: models/peers/{shared_mlp, mlp_per_scenario}.py."""

    units: Units


class MMoEUnits(NetworkUnits):
    """Shape of MMoE: see models/peers/mmoe.py."""

    experts: Positive
    expert_units: Units
    tower_units: Units
    scenario_heads: bool


class PLEUnits(NetworkUnits):
    """Shape of PLE: see models/peers/ple.py."""

    levels: Positive
    task_experts: Positive
    shared_experts: Positive
    expert_units: Units
    tower_units: Units
    scenario_heads: bool


class STARUnits(NetworkUnits):
    """Shape of STAR: see models/peers/star.py."""

    units: Units
    auxiliary_units: Units
    scenario_width: Positive
    partitioned_norm: bool


class PEPNetUnits(NetworkUnits):
    """Shape of PEPNet: see models/peers/pepnet.py."""

    units: Units
    gate_units: Positive
    scenario_width: Positive


class M3oEUnits(NetworkUnits):
    """Shape of M3oE: see models/peers/m3oe.py."""

    star_units: Annotated[list[Positive], Field(min_length=2)]
    experts: Positive
    expert_units: Units
    tower_units: Units


class AutoIFSUnits(NetworkUnits):
    """Shape of AutoIFS: see models/peers/autoifs.py."""

    shared_units: Units
    scenario_units: Positive
    rank: Positive
    gate_units: Units
    search_steps: Positive


def _is_network(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, NetworkUnits)


class Train(Section):
    """Optimisation, and the shape of each model."""

    seed: Seed
    epochs: Positive
    patience: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    final_learning_rate: Annotated[float, Field(ge=0)]
    embedding_weight_decay: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    average: Share
    unknown_share: Share
    rare_id_rows: Annotated[float, Field(ge=0)]
    clip_gradient_norm: Annotated[float, Field(ge=0)]
    sparse_embeddings: bool
    shard_embeddings: bool = False
    precision: Literal["float32", "bfloat16"]
    capture: bool
    checkpoint_seconds: Annotated[float, Field(ge=0)]
    processes: Positive
    embedding_width: Positive
    embedding_precision: Literal["float32", "bfloat16"]
    task_weights: dict[str, Annotated[float, Field(ge=0)]]
    device: Literal["auto", "cpu", "cuda"]
    calibration: Literal["none", "platt", "isotonic"] = "none"
    warm_start: FilePath
    warm_start_columns: Literal["refuse", "map"]
    warm_epochs: Positive
    warm_window_days: Days | None
    window_days: Days | None
    half_life_days: Annotated[float, Field(gt=0)] | None
    hinet: HiNetUnits
    hinet_plus: HiNetUnits
    shared_bottom: SharedBottomUnits
    mlp_per_scenario: PerceptronUnits
    shared_mlp: PerceptronUnits
    mmoe: MMoEUnits
    ple: PLEUnits
    star: STARUnits
    pepnet: PEPNetUnits
    m3oe: M3oEUnits
    autoifs: AutoIFSUnits

    @pydantic.model_validator(mode="after")
    def _check_recipes(self) -> Self:
        """A recipe that no training could have is refused here, before any data are read."""
        for name in NETWORKS:
            if getattr(self, name).recipe:
                self.of_network(name)
        return self

    def of_network(self, name: str) -> "Train":
        """The parameters with which the network called `name` is trained: its own recipe goes before the common one.

        Raises ValueError on a recipe that names no parameter of params.train, or has a value that it does not allow.
        """
        recipe = getattr(self, name).recipe
        if not recipe:
            return self
        if sections := sorted(NETWORKS & set(recipe)):
            raise ValueError(f"{name}.recipe: {sections} are networks; expected parameters such as learning_rate")
        plain = {key: value | {"recipe": {}} if key in NETWORKS else value for key, value in self.model_dump().items()}
        return Train.model_validate(plain | recipe)


NETWORKS = {name for name, field in Train.model_fields.items() if _is_network(field.annotation)}
