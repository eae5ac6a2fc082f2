"""Stage: raw log -> typed events by day with an id, users, items, schema, counts and (where known) the truth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from common import params, stage
from features.schema import to_json

if TYPE_CHECKING:
    from features.datasets.log import Log


def ingest(*, schema: Path, out: Path, truth: Path) -> None:
    """Read the log that params.yaml names into `out` (events by day, users, items, counts), `schema` and `truth`.

    Raises SourceError where the log is missing, incomplete or holds values that its schema does not allow.
    """
    from features import datasets
    from features.datasets.writer import write_entities, write_events

    dataset = params.load().dataset
    log = datasets.read(dataset)
    for folder in (out, truth, schema.parent):
        folder.mkdir(parents=True, exist_ok=True)
    written = write_events(log, dataset.until, out, truth / "truth.parquet")
    write_entities(log, out)
    (out / "counts.json").write_text(_counts(log, written))
    schema.write_text(to_json(log.schema))


def _counts(log: "Log", written: int) -> str:
    left_out = {reason: n for reason, n in sorted(log.counts.left_out.items()) if n}
    counts = {
        "rows_read": log.counts.rows_read,
        "repeated_rows": log.counts.rows_read - sum(left_out.values()) - written,
        "left_out": left_out,
        "rows_written": written,
        "made_null": dict(sorted(log.counts.made_null.items())),
    }
    return json.dumps(counts, indent=1) + "\n"


if __name__ == "__main__":
    stage.run(ingest)
