"""BentoML's descriptors of the API methods: from them come /schema.json and the methods of BentoML's clients.

They describe values and pass them on as they are: the methods check them, by the rules of the routes. A client made
from /schema.json rewrites a schema (an `anyOf` is its first member) and drops, without a word, the keys of nested
objects that it does not list. What is nested is therefore described in a form that clients leave alone: `oneOf`, or a
reference.
"""

import copy
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from _bentoml_sdk.io_models import IORootModel
from bentoml import IODescriptor
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema, create_model, model_serializer

from common.serve_params import Serve
from serving.http.model_info import ModelInfo
from serving.http.response import RankingResponse
from serving.ranking.request import RankRequest, batch_type

UNSET = object()  # the value of an argument that was not given
REWRITTEN = {"$ref", "allOf", "anyOf", "items", "properties"}  # keywords of a schema that clients look into
Descriptor = type[IODescriptor]


class Arguments(IODescriptor):  # type: ignore[misc]
    """The keyword arguments of a method; those that were not given are not sent."""

    model_config = ConfigDict(extra="forbid")

    @model_serializer
    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class Document(IORootModel[Any]):  # type: ignore[misc]
    """A JSON value, described by `json_schema`."""

    json_schema: ClassVar[dict[str, Any]]
    __root_input__: ClassVar[bool] = False  # whether it is the only argument of a method, and the whole body

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        """A copy of the schema: BentoML changes it."""
        return copy.deepcopy(cls.json_schema) | ({"root_input": True} if cls.__root_input__ else {})


def rank_arguments(accepted: type[RankRequest]) -> Descriptor:
    """The arguments of `rank`: the fields of `accepted`."""
    schema = accepted.model_json_schema()
    definitions = schema.get("$defs", {})
    fields: dict[str, Any] = {
        name: _argument(_inlined(described, definitions), required=name in schema["required"])
        for name, described in schema["properties"].items()
    }
    return create_model("RankArguments", __base__=Arguments, **fields)


def batch_argument(accepted: type[RankRequest], settings: Serve) -> Descriptor:
    """The only argument of `rank_batch`: a list of requests."""
    return _document("RankRequests", TypeAdapter(batch_type(accepted, settings)).json_schema(), root_input=True)


def _argument(schema: dict[str, Any], *, required: bool) -> Any:
    field = Field() if required else Field(default_factory=lambda: UNSET)
    return Annotated[Any, WithJsonSchema(_opaque(schema))], field


def _opaque(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema in a form that clients do not look into."""
    if not REWRITTEN & schema.keys():
        return schema
    notes = {name: schema[name] for name in ("title", "description", "default") if name in schema}
    return notes | {"oneOf": [{name: part for name, part in schema.items() if name not in notes}]}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema with what its references name in their place."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
    whole = named | {name: part for name, part in schema.items() if name != "$ref"}
    return {name: _inlined(part, definitions) for name, part in whole.items()}


def _document(name: str, schema: dict[str, Any], *, root_input: bool = False) -> Descriptor:
    document = create_model(name, __base__=Document)
    document.json_schema, document.__root_input__ = schema, root_input
    return document


def _answer(model: type[BaseModel], *, many: bool = False) -> Descriptor:
    """An answer that is a `model`, or a list of them."""
    described = TypeAdapter(list[model]).json_schema(mode="serialization")  # type: ignore[valid-type]
    schema = described if many else {"$ref": described["items"]["$ref"], "$defs": described["$defs"]}
    return _document(model.__name__ + "s" * many, schema)


RANKING, RANKINGS, MODEL = _answer(RankingResponse), _answer(RankingResponse, many=True), _answer(ModelInfo)
ANY_RANK, ANY_BATCH = rank_arguments(RankRequest), _document("RankRequests", {"type": "array"}, root_input=True)
