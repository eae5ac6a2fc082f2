"""Types of the section `train` of params.yaml: optimisation, and the shape of each network."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from common.params_section import Days, FilePath, Positive, Section, Seed, Share, Units


class HiNetUnits(Section):
    """Shape of HiNet: see models/networks/hinet.py."""

    sub_experts: Positive
    expert_units: Units
    task_experts: Positive
    shared_experts: Positive
    task_expert_units: Units
    tower_units: Units
    scenario_width: Positive
    scenario_heads: bool
    interactions: list[Literal["fm"]]
    scenario_view: list[Positive]
    scenario_attention: bool
    hierarchy: bool

    @pydantic.model_validator(mode="after")
    def _check_view(self) -> Self:
        """A shape of which no network can be made is refused here, before any data are read."""
        if len(self.scenario_view) == 1:
            raise ValueError(f"scenario_view needs two widths or more, or none: [], found {self.scenario_view}")
        return self


class SharedBottomUnits(Section):
    """Shape of the shared bottom: see models/networks/shared_bottom.py."""

    bottom_units: Units
    tower_units: Units


class PerceptronUnits(Section):
    """Shape of the shared perceptron, or of each scenario's: models/peers/{shared_mlp, mlp_per_scenario}.py."""

    units: Units


class MMoEUnits(Section):
    """Shape of MMoE: see models/peers/mmoe.py."""

    experts: Positive
    expert_units: Units
    tower_units: Units
    scenario_heads: bool


class PLEUnits(Section):
    """Shape of PLE: see models/peers/ple.py."""

    levels: Positive
    task_experts: Positive
    shared_experts: Positive
    expert_units: Units
    tower_units: Units
    scenario_heads: bool


class STARUnits(Section):
    """Shape of STAR: see models/peers/star.py."""

    units: Units
    auxiliary_units: Units
    scenario_width: Positive
    partitioned_norm: bool


class PEPNetUnits(Section):
    """Shape of PEPNet: see models/peers/pepnet.py."""

    units: Units
    gate_units: Positive
    scenario_width: Positive


class M3oEUnits(Section):
    """Shape of M3oE: see models/peers/m3oe.py."""

    star_units: Annotated[list[Positive], Field(min_length=2)]
    experts: Positive
    expert_units: Units
    tower_units: Units


class AutoIFSUnits(Section):
    """Shape of AutoIFS: see models/peers/autoifs.py."""

    shared_units: Units
    scenario_units: Positive
    rank: Positive
    gate_units: Units
    search_steps: Positive


class Train(Section):
    """Optimisation, and the shape of each model."""

    seed: Seed
    epochs: Positive
    patience: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    embedding_weight_decay: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    average: Share
    unknown_share: Share
    clip_gradient_norm: Annotated[float, Field(ge=0)]
    sparse_embeddings: bool
    precision: Literal["float32", "bfloat16"]
    capture: bool
    checkpoint_seconds: Annotated[float, Field(ge=0)]
    processes: Positive
    embedding_width: Positive
    task_weights: dict[str, Annotated[float, Field(ge=0)]]
    device: Literal["auto", "cpu", "cuda"]
    calibration: Literal["none", "platt", "isotonic"] = "none"
    warm_start: FilePath
    warm_start_columns: Literal["refuse", "map"]
    warm_epochs: Positive
    window_days: Days | None
    half_life_days: Annotated[float, Field(gt=0)] | None
    hinet: HiNetUnits
    shared_bottom: SharedBottomUnits
    mlp_per_scenario: PerceptronUnits
    shared_mlp: PerceptronUnits
    mmoe: MMoEUnits
    ple: PLEUnits
    star: STARUnits
    pepnet: PEPNetUnits
    m3oe: M3oEUnits
    autoifs: AutoIFSUnits
