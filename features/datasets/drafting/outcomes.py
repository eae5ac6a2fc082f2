"""Which raw columns of impressions are no features: weights, and outcomes such as a watch time."""

import re
from typing import Any

from features.datasets.drafting.guesses import Guess, expression
from features.datasets.drafting.profile import RawColumn

OUTCOME_WORDS = {"duration", "dwell", "watch", "play", "stay", "spent", "revenue", "gmv"}
WEIGHT_WORDS = {"weight", "sample", "importance", "row", "impression", "training", "loss"}


def weight_of(column: RawColumn) -> Guess | None:
    """The weight of an impression: numbers from 0 on whose name says so; None for anything else."""
    words = column.words - {column.name.lower()} | {"weight"}
    named = "weight" in column.words and words <= WEIGHT_WORDS
    if not named or not column.is_number or not isinstance(column.least, int | float) or column.least < 0:
        return None
    expressed = {"sql": f"coalesce({expression(column.name)}, 1)"} if column.nulls else {}
    return Guess(
        name=column.name,
        keys={"role": "weight", **expressed},
        why=f"{column.least} to {column.largest}, and its name is that of a weight",
        decide="whether a row is to count so much in training; if not, leave the line out",
    )


def is_outcome(column: RawColumn) -> bool:
    """Whether the name is that of something that is known only after the impression, such as a watch time."""
    return bool(column.words & OUTCOME_WORDS) and column.is_number and not column.is_flag


def outcome_of(column: RawColumn) -> Guess:
    """An outcome: left out, and offered as a regression target; milliseconds in seconds."""
    in_milliseconds = "ms" in column.words
    value = f"{expression(column.name)} / 1000" if in_milliseconds else expression(column.name)
    keys: dict[str, Any] = {"role": "label", "task": "regression"}
    keys |= {"sql": value} if in_milliseconds else {}
    keys |= {"nullable": True} if column.nulls else {}
    keys |= {"minimum": 0} if isinstance(column.least, int | float) and column.least >= 0 else {}
    return Guess(
        name=re.sub("_?ms$", "_seconds", column.name) if in_milliseconds else column.name,
        keys=None,
        why=f"{column.least} to {column.largest}, and it seems to be known only after the impression",
        decide=f"whether to predict it; then without the first #, and with a cap if few are huge: least({value}, ...)",
        offered=keys,
    )
