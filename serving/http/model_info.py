"""What GET /model tells: which model answers, what it was trained on, how good it was, and what it may be asked."""

import json
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from common.params import ServeLimits
from features.schema import Role, Schema, View
from serving.http.limits import LATER
from serving.http.problem_details import Refused
from serving.ranking.request import features_of

if TYPE_CHECKING:  # the page describes a card in a process that reads no model
    from serving.ranking.loaded_model import State

MODEL, REFERENCE, CURVES, WEIGHTS = "model.json", "reference.json", "curves.json", "weights.safetensors"


class Card(BaseModel):
    """A model and its limits."""

    tag: str = Field(description="The first digits of the sha256 of the weights")
    network: str = Field(description="Name of the network")
    first_day: date = Field(description="Of the rows that it was trained on")
    last_day: date
    data_date: datetime | None = Field(description="Up to when the features of the answers are (UTC)")
    metrics: dict[str, float | None] = Field(
        description="On the validation rows, by scenario/task: AUC, accuracy or HR@1; null where nothing can be said"
    )
    dataset: str
    scenarios: list[str]
    tasks: dict[str, list[str]] = Field(description="By task the names of its probabilities in an answer")
    columns: dict[str, list[str]] = Field(description="By role or table: what a request may name")
    schema_fingerprint: str = Field(description="sha256 of the declaration of the log")
    maximum_candidates: int
    maximum_batch: int


def card_of(state: "State", limits: ServeLimits) -> dict[str, Any]:
    """The Card of the model in use, as what JSON is made of; raises Refused (503) while another one takes its place."""
    folder, schema, model = state.sources.model.resolve(), state.schema, state.model
    facts, reference, curves = (json.loads((folder / name).read_text()) for name in (MODEL, REFERENCE, CURVES))
    if not facts["sha256"][WEIGHTS].startswith(model.tag):
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "another model is being read: try again", headers=LATER)
    first, last = _days(reference)
    return Card(
        tag=model.tag,
        network=facts["name"],
        first_day=first,
        last_day=last,
        data_date=state.catalogue.moment,
        metrics=_metrics(facts["summary"], curves),
        dataset=schema.name,
        scenarios=list(schema.scenarios),
        tasks={task.name: list(task.output_names) for task in schema.tasks},
        columns=_columns(schema, model.views),
        schema_fingerprint=schema.fingerprint(),
        maximum_candidates=limits.candidates,
        maximum_batch=limits.batch,
    ).model_dump()


def _days(reference: dict[str, Any]) -> tuple[date, date]:
    first = date.fromisoformat(reference["first_day"])
    return first, first + timedelta(days=len(reference["rows"]) - 1)


def _metrics(summary: dict[str, Any], curves: list[dict[str, Any]]) -> dict[str, float | None]:
    """Those of the epoch whose weights were kept."""
    kept = (epoch["cells"] for epoch in curves if epoch["epoch"] == summary.get("best_epoch"))
    return next(kept, {})


def _columns(schema: Schema, views: tuple[View, ...]) -> dict[str, list[str]]:
    """By role or table, what a request may name."""
    ids = {role.value: [c.name for c in schema.by_role(role)] for role in (Role.USER, Role.ITEM, Role.SCENARIO)}
    return {f"{role}_id" if role != "scenario" else role: names for role, names in ids.items()} | {
        "context": [column.name for column in schema.context],
        "user": [column.name for column in features_of(schema, "users", views)],
        "item": [column.name for column in features_of(schema, "items", views)],
    }
