"""Command: turn the events of the queue, and the impressions that they belong to, into a log that `ingest` reads.

    python -m serving.collect --out data/feedback

It reads what the service reads and writes: the model's folder (HINET_MODEL), the queue of events (HINET_EVENTS, or the
Redis of HINET_REDIS) and the scored-impression log (serve.log.folder, HINET_IMPRESSION_LOG). `OUT/log` is then the
`dataset.path` of `dataset.name: feedback`. Only what is new is read, and only the days that change are written. Killed
at any time, it loses and doubles nothing: the same command goes on.

Exit status: 0 done, or nothing to do; 1 failed, with a message; 75 another collector is at work, or the
queue is out of reach: run it later.
"""

import dataclasses
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import params, stage
from common.errors import ModelError, StoreError
from common.exit_status import LOCKED
from common.files import exclusive_lock, write_text
from common.paths import FEEDBACK, INGESTED, ROOT
from common.run_identity import this_run
from common.settings import read_settings, variable

if TYPE_CHECKING:
    from serving.events.consumer import Queue
    from serving.feedback.collector import Collector

LOCK, REPORT = "collector.lock", "feedback.json"


class CollectorWaitsError(StoreError):
    """Another collector writes to the folder, or the queue is out of reach."""

    exit_status = LOCKED


def collect(
    *,
    model: Path | None = None,
    profiles: Path = INGESTED,
    out: Path = FEEDBACK,
    as_of: datetime | None = None,
    report: Path | None = None,
) -> None:
    """Write what is new in the queue to `out`, and the report (a JSON file).

    Args:
        model: folder of the model that serves, whose schema the log has; by default HINET_MODEL.
        profiles: folder of the ingested tables, from which users and items have their profiles.
        out: folder of the collector; its `log` is what ingest reads.
        as_of: time (UTC) as of which labels are final; by default now.
        report: the JSON file; by default feedback.json in `out`.
    """
    from features.store.redis_errors import OUT_OF_REACH
    from serving.events.event_queue import FILE
    from serving.events.queues import open_queue

    settings = read_settings()
    report = report or out / REPORT
    report.unlink(missing_ok=True)  # that of an earlier run: where this one fails there is none
    now = datetime.now(UTC) if as_of is None else as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of
    folder = ROOT / settings.events
    if settings.redis is None and not (folder / FILE).exists():
        return _finish({"skipped": f"nothing to do: {folder} has no queue, since no event has come"}, report)
    try:
        with exclusive_lock(out / LOCK), closing(open_queue(folder, settings.redis)) as queue:
            content = _run(_collector(queue, model, profiles, out), now)
    except BlockingIOError:
        raise CollectorWaitsError(f"another collector writes to {out}: run it later") from None
    except OUT_OF_REACH as error:
        raise CollectorWaitsError(f"the queue in the Redis of {variable('redis')} is out of reach: {error}") from error
    return _finish(content, report)


def _collector(queue: "Queue", model: Path | None, profiles: Path, out: Path) -> "Collector":
    from features.schema import read_schema
    from serving.feedback.collector import Collector, Sources

    settings, parameters = read_settings(), params.load()
    folder = model or ROOT / settings.model
    if not (folder / "schema.json").is_file():
        raise ModelError(f"{folder} does not exist: run `dvc repro`, or set {variable('model')} to where the model is")
    log = settings.impression_log or parameters.serve.log.folder
    sources = Sources(
        queue=queue,
        schema=read_schema(folder / "schema.json"),
        impressions=None if log is None else ROOT / log,
        profiles=profiles,
    )
    return Collector(sources, parameters.feedback, out)


def _run(collector: "Collector", as_of: datetime) -> dict[str, Any]:
    """Collect; the content of the report."""
    entries = collector.receive()
    if not collector.has_events:
        return {"skipped": "nothing to do: the queue is empty, and nothing was collected before"}
    rows, days = collector.write(as_of)
    return {
        "skipped": None,
        "entries": entries,
        **rows,
        "days": {str(day): dataclasses.asdict(counts) for day, counts in days.items()},
    }


def _finish(content: dict[str, Any], report: Path) -> None:
    print(content["skipped"] or _sentence(content), flush=True)
    write_text(report, json.dumps(content | this_run(None).block(), indent=1) + "\n")


def _sentence(content: dict[str, Any]) -> str:
    lines = [f"{content['entries']:,} new entries; days written: {len(content['days'])}"]
    for day, counts in content["days"].items():
        lacking = ", ".join(f"{count:,} lack a {what}" for what, count in counts["lacking"].items() if count)
        rest = f"; {lacking}" if lacking else ""
        lines.append(f"{day}: {counts['received']:,} events, {counts['written']:,} in the log{rest}")
    return "\n".join(lines)


if __name__ == "__main__":
    stage.run(collect)
