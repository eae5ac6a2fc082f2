"""The answer of GET /model: which model answers, what it was trained on, its metrics, and what a request may name."""

import json
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from common.serve_params import ServeLimits
from features.schema import Role, Schema, View
from serving.http.limits import RETRY_AFTER
from serving.http.problem_details import ProblemError
from serving.ranking.request import features_of

if TYPE_CHECKING:  # the OpenAPI document is made in processes that load no model
    from serving.ranking.ab_test import Challenger
    from serving.ranking.loaded_model import LoadedModel

MODEL, REFERENCE, CURVES, WEIGHTS = "model.json", "reference.json", "curves.json", "weights.safetensors"


class ABInfo(BaseModel):
    """An A/B test."""

    challenger: str | None = Field(description="Tag of the challenger; null: it could not be loaded")
    share: float = Field(description="Of the users: whom the challenger answers")
    salt: str = Field(description="Of the draw of these users")
    timeout_ms: float = Field(description="Of a ranking by the challenger; then the champion answers")
    error: str | None = Field(description="Why its newest files are not in use; null: they are")


class ModelInfo(BaseModel):
    """A model and its limits."""

    tag: str = Field(
        description="The first digits of the sha256 of the weights, and of the calibration if there is one"
    )
    network: str = Field(description="Name of the network")
    first_day: date = Field(description="Of the rows that it was trained on")
    last_day: date
    data_date: datetime | None = Field(description="Up to when the features of the answers are (UTC)")
    metrics: dict[str, float | None] = Field(
        description="On the validation rows, by scenario/task: AUC, accuracy, HR@1 or XAUC; null where it is undefined"
    )
    calibration: dict[str, str] | None = Field(
        description="By scenario/task: platt, isotonic, or why it has none; null: the model is not calibrated"
    )
    dataset: str
    scenarios: list[str]
    tasks: dict[str, list[str]] = Field(
        description="By task the names of its probabilities, or its expected value, in an answer"
    )
    columns: dict[str, list[str]] = Field(description="By role or table: what a request may name")
    schema_fingerprint: str = Field(description="sha256 of the declaration of the log")
    maximum_candidates: int
    maximum_batch: int
    ab: ABInfo | None = Field(description="The A/B test beside this model, the champion; null: there is none")


def describe_model(
    loaded: "LoadedModel", limits: ServeLimits, challenger: "Challenger | None" = None
) -> dict[str, Any]:
    """The ModelInfo of the model in use as a JSON document; raises ProblemError (503) while its files are replaced."""
    folder, schema, model = loaded.sources.model, loaded.schema, loaded.model
    document, reference, curves = (json.loads((folder / name).read_text()) for name in (MODEL, REFERENCE, CURVES))
    if document["sha256"][WEIGHTS] != model.weights_sha256:
        detail = "another model is being read: try again"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)
    first, last = days_of(reference)
    return ModelInfo(
        tag=model.tag,
        network=document["name"],
        first_day=first,
        last_day=last,
        data_date=loaded.catalogue.as_of,
        metrics=metrics_of(document["summary"], curves),
        calibration=None if model.calibration is None else model.calibration.by_cell,
        dataset=schema.name,
        scenarios=list(schema.scenarios),
        tasks={task.name: list(task.output_names) for task in schema.tasks},
        columns=_columns(schema, model.views),
        schema_fingerprint=schema.fingerprint(),
        maximum_candidates=limits.candidates,
        maximum_batch=limits.batch,
        ab=None if challenger is None else _ab_info(challenger),
    ).model_dump()


def _ab_info(challenger: "Challenger") -> ABInfo:
    test = challenger.test
    return ABInfo(
        challenger=challenger.tag,
        share=test.share,
        salt=test.salt,
        timeout_ms=test.timeout_ms,
        error=challenger.reloader.error,
    )


def days_of(reference: dict[str, Any]) -> tuple[date, date]:
    """First and last day of the training rows, of which reference.json has the histograms."""
    first = date.fromisoformat(reference["first_day"])
    return first, first + timedelta(days=len(reference["rows"]) - 1)


def metrics_of(summary: dict[str, Any], curves: list[dict[str, Any]]) -> dict[str, float | None]:
    """The metrics of the epoch whose weights were kept."""
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
