"""The response of POST /rank: its type, and how a ranking result becomes JSON."""

from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from serving.ranking.result import RankingResult

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


class ExplanationResponse(BaseModel):
    """What the scores come from; the lists are parallel to item_ids."""

    scenario_gates: list[list[list[float]]] | None = Field(
        description="By item: weights of the sub-experts, first of the shared expert, then of each scenario's"
    )
    attention: list[float] | None = Field(description="The weight of each scenario for the scenario of the request")
    task_gates: dict[str, list[list[float]]] | None = Field(
        description="By task and item: weights of its experts, its own first, then the shared ones"
    )
    contributions: dict[str, dict[str, list[float]]] = Field(
        description="By group of features, output and item: the logit less what it is without the group"
    )


class UnknownResponse(BaseModel):
    """What else the model does not know of the request; it ranks all the same."""

    scenario: bool = Field(description="No training row is of the scenario: the network has never learnt it")
    columns: list[str] = Field(
        description="Of user, context or items: those with a value that no training row has, or too few have"
    )


class RankingResponse(BaseModel):
    """Items, best first, with what their order comes from; the lists are parallel."""

    item_ids: list[int] | list[str]
    scores: list[float] = Field(
        description="Sum of weight x probability (or expected value) over the tasks of the objective"
    )
    probabilities: dict[str, list[float]] = Field(description="By task, or task=class")
    model: str = Field(description="Tag of the model: the first digits of the sha256 of its weights")
    data_date: datetime | None = Field(description="Up to when the features are (UTC); null: unknown")
    considered: int = Field(description="Candidates after the filters and exclusions")
    unknown_user: bool = Field(
        description="The model does not know the user: served by the trained unknown row, or one shared by hash"
    )
    unknown_items: list[int] | list[str] = Field(
        description="Items that the trained unknown row, or one shared by hash, serves"
    )
    stale: dict[str, int] = Field(description="By view: rows that were read and are older than they may be")
    degraded: str | None = Field(description="Why features or model could not be used in full; null: they were")
    explanation: ExplanationResponse | None = Field(description="With explain only, and not with fallback scores")
    expected: dict[str, list[float]] | None = Field(
        default=None,
        description="By regression task: the expected value, in the unit of its label; only with such a task",
    )
    unknown: UnknownResponse | None = Field(default=None, description="Only where there is something to say in it")
    diversified: int | None = Field(
        default=None, description="With diversify only: ranks, from the first, that keep its limit"
    )
    arm: Literal["champion", "challenger"] | None = Field(
        default=None, description="In an A/B test only: that of the user; `model` is the one that answered"
    )


def ranking_json(result: RankingResult) -> bytes:
    """The RankingResponse of a result as JSON."""
    return orjson.dumps(_document(result), _to_list, _OPTIONS)


def _document(result: RankingResult) -> dict[str, Any]:
    document: dict[str, Any] = {
        "item_ids": result.items,
        "scores": result.scores,
        "probabilities": result.probabilities,
        "model": result.model,
        "data_date": result.data_date,
        "considered": result.considered,
        "unknown_user": result.unknown_user,
        "unknown_items": result.unknown_items,
        "stale": result.outdated,
        "degraded": result.degraded,
        "explanation": vars(result.explanation) if result.explanation else None,
    }
    if result.regressed:
        values = document["probabilities"]
        document["probabilities"] = {name: values[name] for name in values if name not in result.regressed}
        document["expected"] = {name: values[name] for name in result.regressed}
    if result.unknown_columns or result.untrained_scenario:
        document["unknown"] = {"scenario": result.untrained_scenario, "columns": result.unknown_columns}
    if result.diversified is not None:
        document["diversified"] = result.diversified
    if result.arm is not None:
        document["arm"] = result.arm
    return document


def _to_list(array: Any) -> Any:
    """Convert an array that is not contiguous, which orjson does not take."""
    return array.tolist()
