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

    Raises SourceError where the log is missing, incomplete or holds values that its schema does not allow, and
    SchemaError where a column has the name of a statistic.
    """
    from features import datasets
    from features.datasets.writer import write_entities, write_events
    from features.engine.feature_views import check_names

    dataset = params.load().dataset
    log = datasets.read(dataset)
    check_names(log.schema)
    for folder in (out, truth, schema.parent):
        folder.mkdir(parents=True, exist_ok=True)
    written = write_events(log, dataset.until, out, truth / "truth.parquet")
    write_entities(log, out)
    (out / "counts.json").write_text(_counts(log, written))
    schema.write_text(to_json(log.schema), encoding="utf-8")
    if repeats := log.counts.repeats_kept:
        print(
            f"warning: {repeats:,} of {written:,} events repeat another one in every column, and are kept. If they are "
            "the same impression twice, give a column _row with a fingerprint of the raw row: ingest then keeps one",
            flush=True,
        )


def _counts(log: "Log", written: int) -> str:
    left_out = {reason: n for reason, n in sorted(log.counts.left_out.items()) if n}
    counts = {
        "rows_read": log.counts.rows_read,
        "repeated_rows": log.counts.rows_read - sum(left_out.values()) - written,
        "left_out": left_out,
        "rows_written": written,
        **({"repeats_kept": log.counts.repeats_kept} if log.counts.repeats_kept else {}),
        "made_null": dict(sorted(log.counts.made_null.items())),
    }
    return json.dumps(counts, indent=1) + "\n"


if __name__ == "__main__":
    stage.run(ingest)
