"""What the sections of params.yaml have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Units = Annotated[list[Positive], Field(min_length=1)]


class Section(BaseModel):
    """A section of params.yaml: an unknown key or a value of another type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
