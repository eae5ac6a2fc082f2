"""The answer of POST /rank: its form, and how it is made from what a ranker says."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel, Field

from serving.ranking.result import Ranked

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


class Explained(BaseModel):
    """Why the items stand where they stand; lists run in parallel to item_ids."""

    scenario_gates: list[list[list[float]]] | None = Field(
        description="By item: weights of the sub-experts, first of the shared expert, then of each scenario's"
    )
    attention: list[float] | None = Field(description="How much the scenario listens to each one")
    task_gates: dict[str, list[list[float]]] | None = Field(
        description="By task and item: weights of its experts, its own first, then the shared ones"
    )
    contributions: dict[str, dict[str, list[float]]] = Field(
        description="By group of features, output and item: the logit less what it is without the group"
    )


class Ranking(BaseModel):
    """Items, best first, with what their order comes from; the lists run in parallel."""

    item_ids: list[int] | list[str]
    scores: list[float] = Field(description="Sum of weight x probability over the tasks of the objective")
    probabilities: dict[str, list[float]] = Field(description="By task, or task=class")
    model: str = Field(description="Tag of the model: the first digits of the sha256 of its weights")
    data_date: datetime | None = Field(description="Up to when the features are (UTC); null: nobody knows")
    considered: int = Field(description="Candidates after the filters")
    unknown_user: bool = Field(description="The model does not know the user: served by the trained unknown row")
    unknown_items: list[int] | list[str] = Field(description="Items that the trained unknown row serves")
    stale: dict[str, int] = Field(description="By view: rows that were read and are older than they may be")
    degraded: str | None = Field(description="Why the answer is not the whole truth; null: it is")
    explanation: Explained | None = Field(description="With explain only")


def answer_of(ranked: Ranked) -> bytes:
    """The Ranking that tells what a ranker said, as JSON."""
    return orjson.dumps(_plain(ranked), _listed, _OPTIONS)


def answers_of(all_ranked: Iterable[Ranked]) -> bytes:
    """A list of Rankings as JSON, in order."""
    return b"[" + b",".join(answer_of(ranked) for ranked in all_ranked) + b"]"


def _plain(ranked: Ranked) -> dict[str, Any]:
    return {
        "item_ids": ranked.items,
        "scores": ranked.scores,
        "probabilities": ranked.probabilities,
        "model": ranked.model,
        "data_date": ranked.data_date,
        "considered": ranked.considered,
        "unknown_user": ranked.unknown_user,
        "unknown_items": ranked.unknown_items,
        "stale": ranked.stale,
        "degraded": ranked.degraded,
        "explanation": vars(ranked.explanation) if ranked.explanation else None,
    }


def _listed(array: Any) -> Any:
    """What orjson does not take: an array that does not lie in one piece."""
    return array.tolist()
