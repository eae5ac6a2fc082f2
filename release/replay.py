"""A day of a log as the service would have answered it: the model's probabilities for each impression of the day.

    python -m release.replay --day 2026-01-14 --events DIR --schema data/schema.json --features data/features \
      --online artifacts/serving/online.db --as-of 2026-01-14T01:00 --model artifacts/releases/champion/model \
      --frozen DIR --out DIR

Features are as of the impression, without those that are newer than the online store, such as a new item's at noon. A
sample is also sent to a ranker on that store; its answers have to be those in the file.
"""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from common import stage

Timestamp = Annotated[datetime, Parameter(name=("--as-of", "--moment"))]


def replay(
    *,
    day: date,
    events: Path,
    schema: Path,
    features: Path,
    online: Path,
    as_of: Timestamp,
    model: Path,
    frozen: Path,
    out: Path,
) -> None:
    """Write the impressions of a day with the model's probabilities to served.parquet, its metrics to figures.json.

    served.parquet has the columns of the scored-impression log. Raises SourceError where there is no impression,
    ReleaseError where a ranker on the online store answers otherwise.

    Args:
        day: The day (UTC).
        events: Folder of the events, by day.
        schema: Declaration of the data set.
        features: Folder of the offline features.
        online: The SQLite online store.
        as_of: The timestamp (UTC) that the online store is materialized up to.
        model: Folder of the model.
        frozen: Folder of the model that it is compared with.
        out: Folder of the two files.
    """
    from release.served_day import ServedDay

    served = ServedDay(day=day, schema=schema, features=features, online=online, as_of=as_of)
    print(served.replay(events, model=model, baseline=frozen, out=out))


if __name__ == "__main__":
    stage.run(replay)
