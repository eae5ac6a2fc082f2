"""What the sections of params.yaml have in common."""

import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LARGEST = 10**9  # beyond it, a count, a date or a memory of some step overflows

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
Units = Annotated[list[Positive], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and torch both take
Days = Annotated[int, Field(gt=0, le=36_500)]  # a hundred years
Hours = Annotated[float, Field(le=1_000_000)]  # a hundred years
# Text in quotes or not: DVC keeps either. What is beyond these years cannot have a window before or after it.
Day = Annotated[datetime.date, Field(strict=False, ge=datetime.date(1900, 1, 1), lt=datetime.date(2200, 1, 1))]


def _check_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path has no NUL character")
    return path


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_check_path)]


class Section(BaseModel):
    """A section of params.yaml: an unknown key or a value of another type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
