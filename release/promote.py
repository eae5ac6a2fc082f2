"""The released model: a challenger becomes the champion if the gate opens, and the way back.

    python -m release.promote                  # the model and the bento that `dvc repro` just made
    python -m release.promote --rollback       # to the release before
    python -m release.promote --to TAG         # to any that is kept

Exit status: 0 the champion is what was asked for, 2 the gate is closed, 1 nothing could be judged. Unless it is 0,
everything is as it was.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from common import params, stage
from common.errors import ReleaseError
from features.store.item_snapshot import snapshot_beside
from models.model_folder import Model, read_model
from release import registry as shelf
from release.comparison import Stores, compare, unseen
from release.policy import Figures, Rule, Verdict, judge
from release.provenance import Repository
from release.registry import Record, Releases

CLOSED = 2
ROOT = Path()


def release(
    *,
    challenger: Path = Path("artifacts/models/hinet"),
    bento: Path = Path("artifacts/bento"),
    online: Path = Path("artifacts/online.db"),
    encoder: Path = Path("artifacts/encoder.json"),
    features: Path = Path("data/features"),
    training: Path = Path("data/training"),
    tensors: Path = Path("data/tensors"),
    releases: Path = Path("artifacts/releases"),
    moment: datetime | None = None,
    rollback: bool = False,
    to: str | None = None,
    verdict: Path | None = None,
) -> int:
    """Release the model folder `challenger` with its `bento` if the gate opens, or go back by `--rollback` or `--to`.

    The verdict is printed, and written to `verdict` as JSON. `moment` (UTC) is that up to which `online` was filled,
    if it is not the newest snapshot.
    """
    held = Releases(releases)
    with held.locked():
        if rollback or to is not None:
            return go_back(held, to)
        stores = Stores(
            challenger=challenger,
            bento=bento,
            online=online,
            encoder=encoder,
            features=features,
            training=training,
            tensors=tensors,
            moment=_utc(moment),
        )
        return challenge(held, stores, verdict)


def go_back(held: Releases, to: str | None) -> int:
    """Make the release `to` the champion, or the one before the champion; raises ReleaseError where there is none."""
    champion = held.pointed()
    if champion is None:
        raise ReleaseError(f"{held.folder} has no champion yet, there is nothing to go back from")
    tag = held.before(champion) if to is None else held.find(to)
    if tag == champion:
        print(f"{tag} is the champion already", flush=True)
        return 0
    read_model(held.folder / tag / shelf.MODEL)  # a damaged one is refused before it is in use
    held.record({"event": "rollback", "tag": tag, "previous": champion, **_who(Repository(ROOT))})
    held.point(tag)
    print(f"champion {tag}, back from {champion}; `make champion` serves it, and one that runs takes it up", flush=True)
    return 0


def challenge(held: Releases, stores: Stores, written: Path | None) -> int:
    """Judge the challenger, and release it if every rule holds."""
    from release.parity import check_equalities  # feast and its like take seconds: not on the way back

    _check(stores)
    settings, repository = params.load(), Repository(ROOT)
    repository.check(settings.release.branch)
    torch.set_num_threads(stage.threads())
    challenger, champion = read_model(stores.challenger), held.champion()
    tag = f"{challenger.tag}-{shelf.digest(stores.bento)[: shelf.DIGITS]}"
    decided = _decided(held, tag)
    if decided is not None:
        _tell(tag, decided, written)
        return 0 if decided.passed else CLOSED
    before = None if champion is None else held.folder / champion / shelf.MODEL
    known, since = (read_model(before), unseen(stores.challenger, before)) if before else (None, None)
    figures = compare(challenger, known, stores.rows, settings.release.confidence, since=since)
    found = judge(figures, list(check_equalities(challenger, stores, settings)), settings.release)
    _tell(tag, found, written)
    if not found.passed:
        return CLOSED
    record = _record(tag, champion, challenger, stores, repository) | _metrics(figures, found)
    held.prepare(tag, model=stores.challenger, bento=stores.bento)
    commit = repository.commit(settings.release.branch, record, _message(record, found))
    held.publish(record | {"commit": commit}, keep=settings.release.keep)
    print(f"champion {tag}; `make champion` serves it, and one that runs takes it up", flush=True)
    return 0


def _decided(held: Releases, tag: str) -> Verdict | None:
    """What is to be said of a challenger without judging it: it is the champion, or somebody went back from it."""
    if tag == held.champion():
        told = Rule(name="champion", passed=True, sentence=f"{tag} is the champion already")
        return Verdict(rules=(told,))
    record = held.withdrawn(tag)
    if record is None:
        return None
    reason = f"{record['who']} went back from {tag} at {record['when']}: `--to {tag}` takes it into use again"
    return Verdict(rules=(Rule(name="withdrawn", passed=False, sentence=reason),))


def _check(stores: Stores) -> None:
    """Everything has to be there; raises ReleaseError that names what is not."""
    from features.store.definitions import REDIS  # feast again

    online = [] if os.environ.get(REDIS) else [stores.online]
    wanted = [stores.bento / "bento.yaml", *online, snapshot_beside(stores.online), stores.encoder, stores.rows]
    wanted += [stores.tensors / "test", stores.features / "views.json"]
    lost = [str(path) for path in wanted if not path.exists()]
    if lost:
        raise ReleaseError(f"{', '.join(lost)}: expected what the pipeline makes, found nothing; run `dvc repro`")


def _tell(tag: str, found: Verdict, written: Path | None) -> None:
    print(f"challenger {tag}: {found.told()}", flush=True)
    if written is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({"tag": tag, **found.plain()}, indent=1) + "\n")


def _who(repository: Repository) -> Record:
    return {"who": repository.author(), "when": datetime.now(UTC).isoformat(timespec="seconds")}


def _record(tag: str, champion: str | None, challenger: Model, stores: Stores, repository: Repository) -> Record:
    """What is to be known of a release for as long as there is a file of them."""
    bento = yaml.safe_load((stores.bento / "bento.yaml").read_text())
    return {
        "event": "release",
        "tag": tag,
        "previous": champion,
        **_who(repository),
        "revision": repository.revision(),
        "changed": repository.changed(),
        "data": _sha256(stores.rows),
        "params": _sha256(ROOT / "params.yaml"),
        "model": challenger.tag,
        "bento": f"{bento['name']}:{bento['version']}",
    }


def _metrics(figures: Figures, found: Verdict) -> dict[str, Any]:
    cells = {cell.name: round(cell.challenger, 6) for cell in figures.cells}
    return {
        "metrics": {"mean": round(figures.mean, 6), "rows": figures.rows, "cells": cells},
        "verdict": [rule.sentence for rule in found.rules],
    }


def _message(record: Record, found: Verdict) -> str:
    replaced = f"in place of {record['previous']}" if record["previous"] else "the first"
    return f"Release {record['tag']}\n\n{replaced}; {found.told()}\n"


def _utc(moment: datetime | None) -> datetime | None:
    """A moment without a zone is one of UTC."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    stage.run(release)
