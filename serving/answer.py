"""The answers of POST /rank: a ranking, or why a request was refused, in words for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from serving.ranked import Ranked

SHOWN = 60  # characters of a wrong value that an answer repeats
TOLD = 10  # broken rules that an answer tells
NO_OBJECT = "must be a JSON object, sent with Content-Type: application/json"


class Ranking(BaseModel):
    """Items, best first, with what their order comes from; the lists run in parallel."""

    item_ids: list[int] | list[str]
    scores: list[float] = Field(description="Sum of weight x probability over the tasks of the objective")
    probabilities: dict[str, list[float]] = Field(description="By task, or task=class")
    unknown_user: bool = Field(description="The model does not know the user: served by the trained unknown row")
    unknown_items: list[int] | list[str] = Field(description="Items that the trained unknown row serves, as asked")
    model: str = Field(description="Tag of the model: the first digits of the sha256 of its weights")


def ranking_of(ranked: Ranked) -> Ranking:
    """The answer that tells what a ranker said."""
    return Ranking(
        item_ids=ranked.items,
        scores=ranked.scores.tolist(),
        probabilities={name: values.tolist() for name, values in ranked.probabilities.items()},
        unknown_user=ranked.unknown_user,
        unknown_items=ranked.unknown_items,
        model=ranked.model,
    )


class Broken(BaseModel):
    """One rule that a request breaks."""

    field: str = Field(description="Where: a field, or an element of it (candidates.3)")
    rule: str = Field(description="What is expected there, and what was found")


class Fault(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="All broken rules in one line")
    detail: list[Broken]


def fault_of(errors: Sequence[Mapping[str, Any]]) -> Fault:
    """What pydantic says of a request, for the person who sent it; at most TOLD rules."""
    detail = [Broken(field=_field(error), rule=_rule(error)) for error in errors[:TOLD]]
    sentence = "; ".join(f"{broken.field}: {broken.rule}" for broken in detail)
    more = f"; and {len(errors) - TOLD} more" if len(errors) > TOLD else ""
    return Fault(error=sentence + more, detail=detail)


def _field(error: Mapping[str, Any]) -> str:
    location = [part for part in error["loc"] if part != "body"] if error["type"] != "json_invalid" else []
    return ".".join(_shown(str(part)) for part in location) or "body"


def _rule(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return f"must be JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if _field(error) == "body" and error["type"] not in ("too_short", "too_long"):
        return NO_OBJECT
    found = error.get("input")
    shown = f", found {_shown(ascii(found))}" if isinstance(found, bool | int | float | str) else ""
    return error["msg"] + shown


def _shown(text: str) -> str:
    """`text` as any answer can hold it: short, and without the halves of characters that JSON can smuggle in."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= SHOWN else plain[:SHOWN] + "..."
