"""Update an online store that is in use up to a timestamp: new rows and late rows, and nothing of the future.

    python -m features.refresh --schema data/schema.json --features data/features \
      --online artifacts/serving/online.db --as-of 2026-01-18T02:00 --out artifacts/flows/online

The stage `materialize` makes a store from nothing; this command changes a store that others read meanwhile. A second
run writes nothing; a killed run is completed by the same command. Afterwards a sample of the store is compared with the
offline store, as by `inspect_online`; where they differ, the whole store is written again, once. Last, the item
snapshot next to the store is replaced, which services reload by themselves.

With HINET_REDIS (host:port, and more as Feast has it) the store is that Redis; `online` only names the files of its
state. With HINET_FEAST_REGISTRY it registers the views, and up to when they are materialized, in that database.

Exit status: 0 done, or nothing to do; 1 failed, with a message; 75 the store is locked or unreachable: run it later.
"""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from common import params, stage
from common.checksum_memo import ChecksumMemo
from common.files import sha256_of_folder, write_text
from common.paths import CHAMPION_MODEL
from common.run_identity import RunIdentity, this_run

REPORTS = ("refresh.json", "check.json")

if TYPE_CHECKING:
    from features.quality.gate import SuiteResult
    from features.store.online_store import OnlineStore


def refresh(
    *, schema: Path, features: Path, online: Path, as_of: datetime, out: Path, champion: Path = CHAMPION_MODEL
) -> None:
    """Update the SQLite online store `online` up to `as_of` (UTC) from the views under `features`.

    Nothing is written where the store has the features of the model in `champion`, if there is one, and the views lack
    some of them. `out` gets check.json and docs/ (how the store compares), then refresh.json (what was written). Raises
    ValidationError if the store differs from the offline store even when all of it was written again, ParameterError if
    an incomplete run had a later target, StoreUnavailableError if the store is locked or unreachable, and StoreError if
    Redis or the disk is full.
    """
    from features.quality.results import to_json
    from features.store.champion_features import reason_to_keep
    from features.store.online_store import CHECKSUMS, OnlineStore, exclusive_access, state_dir

    timestamp = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
    for name in REPORTS:
        (out / name).unlink(missing_ok=True)  # those of an earlier run: where this one fails there are none
    settings = params.load()
    overlap = timedelta(hours=settings.materialize.overlap_hours)
    with exclusive_access(online):
        memo = ChecksumMemo(state_dir(online) / CHECKSUMS)
        run = this_run(sha256_of_folder(features, memo.sha256_of))
        paths = {"schema": schema, "features": features, "online": online}
        store = OnlineStore(**paths, overlap=overlap, engine=settings.engine)
        kept = reason_to_keep(store, champion)
        report = _keep(store, timestamp, kept) if kept else _update(store, timestamp, settings.inspect.sample, out, run)
        if not kept:
            memo.write()
    write_text(out / "refresh.json", to_json(report | run.block()))


def _update(store: "OnlineStore", as_of: datetime, sample: int, out: Path, run: RunIdentity) -> dict[str, Any]:
    """Write what is missing as of `as_of`, check a sample against the offline store; returns the report."""
    from features.quality import gate
    from features.quality.online_store import GATE

    if as_of < store.watermark.as_of:
        return _skip(store, as_of)
    store.check_target(as_of)
    rewrite = store.needs_rewrite
    counts = store.write(as_of, rewrite=rewrite)
    suites = _check(store, as_of, sample)
    again = any(suite.faults for suite in suites) and not rewrite
    if again:
        print("online and offline differ before the overlap: the whole store is written again", flush=True)
        counts, suites = store.write(as_of, rewrite=True), _check(store, as_of, sample)
    remedy = f"Nothing but this command may write to {store.online}; remove {store.state_dir}, then run it again."
    conclusion = dataclasses.replace(GATE, remedy=remedy)
    gate.enforce(
        conclusion,
        suites,
        name=store.schema.name,
        compared=(store.online, store.features),
        report=out / "check.json",
        docs=out / "docs",
        run=run,
    )
    store.write_snapshot(as_of)
    store.complete(as_of)
    return {
        "as_of": as_of.isoformat(),
        "up_to": as_of.isoformat(),
        "skipped": None,
        "whole": rewrite or again,
        "again": again,
        "views": {name: dataclasses.asdict(count) for name, count in counts.items()},
        "compared": {suite.name: suite.rows for suite in suites},
    }


def _keep(store: "OnlineStore", as_of: datetime, reason: str) -> dict[str, Any]:
    """The report of a run that leaves the store to the champion, whose features it holds."""
    print(reason, flush=True)
    up_to = store.watermark.as_of.isoformat()
    return {"as_of": as_of.isoformat(), "up_to": up_to, "skipped": reason, "of_champion": True}


def _skip(store: "OnlineStore", as_of: datetime) -> dict[str, Any]:
    """The report of a run whose target lies before the watermark; a missing item snapshot is written."""
    reason = f"nothing to do: the store is materialized up to {store.watermark.as_of:%Y-%m-%d %H:%M} UTC already"
    print(reason, flush=True)
    if not store.snapshot.exists():  # the store was written by a version without item snapshots
        store.write_snapshot(store.watermark.as_of)
    return {"as_of": as_of.isoformat(), "up_to": store.watermark.as_of.isoformat(), "skipped": reason}


def _check(store: "OnlineStore", as_of: datetime, sample: int) -> list["SuiteResult"]:
    """Compare a sample of the store with the offline store as of `as_of`."""
    from features.quality.online_store import check_online

    with TemporaryDirectory() as scratch:
        opened = store.open(store.features, Path(scratch))
        return check_online(opened, store.schema, store.views, store.features, sample, as_of=as_of)


if __name__ == "__main__":
    stage.run(refresh)
