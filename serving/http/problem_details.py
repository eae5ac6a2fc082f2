"""Why a request is refused, in words for a person: problem details (RFC 9457) with the broken rules by field."""

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import pydantic
from pydantic import BaseModel, Field

MEDIA_TYPE = b"application/problem+json"
SHOWN = 60  # characters of a wrong value that an answer repeats
TOLD = 10  # broken rules that an answer tells
KINDS = {"model_type": "an object", "dict_type": "an object", "list_type": "a list"}


class Broken(BaseModel):
    """One rule that a request breaks."""

    field: str = Field(description="Where: a field, or an element of it (candidates.3)")
    rule: str = Field(description="What is expected there, and what was found")


class Problem(BaseModel):
    """Why a request was refused."""

    type: str = Field(description='A URI of the kind of problem; "about:blank": the status says it all')
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="What is wrong, and what to do; all broken rules in one line")
    errors: list[Broken] = Field(description="The broken rules, the first ones; none where the body is not at fault")
    instance: str | None = Field(default=None, description="Under what an error of the service stands in its log")


class Refused(Exception):  # noqa: N818  # what a person did, not what went wrong
    """A request that is not answered with what it asks for; `headers` go with the answer."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[Broken] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors), dict(headers or {})
        self.instance = f"urn:uuid:{uuid.uuid4()}" if status == HTTPStatus.INTERNAL_SERVER_ERROR else None

    def body(self) -> bytes:
        """The problem as JSON."""
        problem = Problem(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
            instance=self.instance,
        )
        return orjson.dumps(problem.model_dump(exclude_none=True))


def refusal_of(error: pydantic.ValidationError) -> Refused:
    """What pydantic says of a request: 400 for what is no JSON, 422 for what breaks a rule; at most TOLD rules."""
    errors = error.errors(include_url=False)
    if errors[0]["type"] == "json_invalid":
        broken = Broken(field="body", rule=f"must be JSON: {errors[0]['ctx']['error']}")
        return Refused(HTTPStatus.BAD_REQUEST, f"body: {broken.rule}", [broken])
    told = [Broken(field=_field(one), rule=_rule(one)) for one in errors[:TOLD]]
    sentence = "; ".join(f"{broken.field}: {broken.rule}" for broken in told)
    more = f"; and {len(errors) - TOLD} more" if len(errors) > TOLD else ""
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, sentence + more, told)


def _field(error: Mapping[str, Any]) -> str:
    return ".".join(_shown(str(part)) for part in error["loc"]) or "body"


def _rule(error: Mapping[str, Any]) -> str:
    if error["type"] in KINDS:
        return f"Input should be {KINDS[error['type']]}{_found(error)}"
    return error["msg"] + _found(error)


def _found(error: Mapping[str, Any]) -> str:
    found = error.get("input")
    return f", found {_shown(ascii(found))}" if isinstance(found, bool | int | float | str) else ""


def _shown(text: str) -> str:
    """`text` as any answer can hold it: short, and without the halves of characters that JSON can smuggle in."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= SHOWN else plain[:SHOWN] + "..."
