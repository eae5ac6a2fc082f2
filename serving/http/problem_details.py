"""Problem details (RFC 9457): why a request is refused, with the broken rules by field."""

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import pydantic
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
MAX_VALUE = 60  # characters of a wrong value that a response repeats
MAX_RULES = 10  # broken rules that a response lists
MAX_TEXT = 1000  # characters of a rule, which may repeat the request
MAX_ERRORS = 2000  # broken rules beyond which none is listed: pydantic describes all or none, at 1 kB each
EXPECTED = {"model_type": "an object", "dict_type": "an object", "list_type": "a list"}  # by pydantic's error type


class BrokenRule(BaseModel):
    """One rule that a request breaks."""

    field: str = Field(description="Where: a field, or an element of it (candidates.3)")
    rule: str = Field(description="What is expected there, and what was found")


class Problem(BaseModel):
    """Why a request was refused."""

    type: str = Field(description='A URI of the kind of problem; "about:blank": the status describes it')
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="What is wrong, and what to do; all broken rules in one line")
    errors: list[BrokenRule] = Field(description="The broken rules, the first ones; none where the body is valid")
    instance: str | None = Field(default=None, description="The id under which an error of the service is logged")


class ProblemError(HTTPException):
    """A request that is answered with problem details; `headers` go with the response."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[BrokenRule] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.errors = list(errors)
        self.instance = f"urn:uuid:{uuid.uuid4()}" if status == HTTPStatus.INTERNAL_SERVER_ERROR else None

    def body(self) -> bytes:
        """The problem as JSON."""
        problem = Problem(
            type="about:blank",
            title=HTTPStatus(self.status_code).phrase,
            status=self.status_code,
            detail=self.detail,
            errors=self.errors,
            instance=self.instance,
        )
        return orjson.dumps(problem.model_dump(exclude_none=True))

    def response(self) -> Response:
        """The problem as an HTTP response."""
        return Response(self.body(), self.status_code, self.headers, MEDIA_TYPE)


def validation_problem(error: pydantic.ValidationError) -> ProblemError:
    """Pydantic's errors as a problem: 400 for a body that is not JSON, 422 for broken rules, at most MAX_RULES."""
    if error.error_count() > MAX_ERRORS:
        broken = BrokenRule(field="body", rule=f"breaks {error.error_count():,} rules: too many to list them")
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"body: {broken.rule}", [broken])
    errors = error.errors(include_url=False)
    if errors[0]["type"] == "json_invalid":
        broken = BrokenRule(field="body", rule=f"must be JSON: {errors[0]['ctx']['error']}")
        return ProblemError(HTTPStatus.BAD_REQUEST, f"body: {broken.rule}", [broken])
    rules = [BrokenRule(field=_field(one), rule=_rule(one)) for one in errors[:MAX_RULES]]
    sentence = "; ".join(f"{broken.field}: {broken.rule}" for broken in rules)
    more = f"; and {len(errors) - MAX_RULES} more" if len(errors) > MAX_RULES else ""
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, sentence + more, rules)


def _field(error: Mapping[str, Any]) -> str:
    return ".".join(shorten(str(part)) for part in error["loc"]) or "body"


def _rule(error: Mapping[str, Any]) -> str:
    if error["type"] in EXPECTED:
        return f"Input should be {EXPECTED[error['type']]}{_actual(error)}"
    return shorten(str(error["msg"]), MAX_TEXT) + _actual(error)


def _actual(error: Mapping[str, Any]) -> str:
    value = error.get("input")
    if isinstance(value, str):
        return f", found {shorten(ascii(value[: 2 * MAX_VALUE]))}"
    return f", found {shorten(ascii(value))}" if isinstance(value, bool | int | float) else ""


def shorten(text: str, limit: int = MAX_VALUE) -> str:
    """At most `limit` characters of `text`, in ASCII: JSON can contain lone surrogates, which no response can."""
    plain = text[: limit + 1].encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= limit else plain[:limit] + "..."
