"""A challenger is compared with the champion, checked for parity, and released if the promotion policy accepts it."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from common import params, stage
from common.errors import ModelError, SchemaError
from common.exit_status import DONE, REJECTED
from common.files import sha256_of, sha256_of_folder, write_text
from common.paths import PARAMS
from common.run_identity import this_run
from models.model_folder import Model, read_model
from release.candidate import Candidate
from release.comparison import ANEW, NotComparableError, compare, first_unseen_day
from release.parity import check_parity
from release.policy import ChallengerMetrics, Rule, Verdict, decide
from release.provenance import Repository
from release.registry import DIGITS, MODEL, Record, Registry
from release.takeover import observe, sentence
from release.trial import check_whole


def challenge(registry: Registry, candidate: Candidate, verdict_path: Path | None, *, new_schema: bool = False) -> int:
    """Evaluate the challenger, and release it if every rule passes; returns the exit status.

    With `new_schema` a champion that cannot score the challenger's rows is replaced by chance in the comparison.
    """
    candidate.check_complete()
    settings, repository = params.load(), Repository(Path())
    repository.check(settings.release.branch)
    torch.set_num_threads(stage.threads())
    challenger, champion = read_model(candidate.model), registry.champion()
    tag = f"{challenger.tag}-{sha256_of_folder(candidate.bento)[:DIGITS]}"
    if (known := _known_verdict(registry, tag)) is not None:
        _write_verdict(tag, known, candidate, verdict_path)
        return DONE if known.passed else REJECTED
    baseline = None if champion is None else registry.folder / champion / MODEL
    metrics = _compare(challenger, candidate, baseline, settings, new_schema=new_schema)
    verdict = decide(metrics, list(check_parity(challenger, candidate, settings)), settings.release)
    _write_verdict(tag, verdict, candidate, verdict_path)
    if not verdict.passed:
        return REJECTED
    record = _record(tag, champion, challenger, candidate, repository) | _metrics(metrics, verdict)
    registry.prepare(tag, model=candidate.model, bento=candidate.bento)
    check_whole(registry.folder / tag)
    commit = repository.commit(settings.release.branch, record, _commit_message(record, verdict))
    registry.activate(record | {"commit": commit}, keep=settings.release.keep)
    print(f"champion {tag}", flush=True)
    print(sentence(tag, observe(registry.folder, tag), "`make champion`"), flush=True)
    return DONE


def _compare(
    challenger: Model, candidate: Candidate, champion: Path | None, settings: params.Params, *, new_schema: bool
) -> ChallengerMetrics:
    """The metrics of the challenger beside those of the model in the folder `champion`, on rows new to both."""
    rows, confidence = candidate.test_rows, settings.release.confidence
    if champion is None:
        return compare(challenger, None, rows, confidence)
    try:
        model, since = _read_champion(champion), first_unseen_day(candidate.model, champion)
        return compare(challenger, model, rows, confidence, since=since)
    except NotComparableError:
        if not new_schema:
            raise
        return compare(challenger, None, rows, confidence)


def _read_champion(folder: Path) -> Model:
    """The champion; raises NotComparableError where this code does not read it."""
    try:
        return read_model(folder)
    except (ModelError, SchemaError) as error:
        raise NotComparableError(f"the champion cannot be compared: {error}. If it is whole, {ANEW}") from error


def _known_verdict(registry: Registry, tag: str) -> Verdict | None:
    """The verdict on a challenger that needs no evaluation: it is the champion, or a rollback withdrew it."""
    if tag == registry.champion():
        rule = Rule(name="champion", passed=True, sentence=f"{tag} is the champion already")
        return Verdict(rules=(rule,))
    record = registry.withdrawn(tag)
    if record is None:
        return None
    reason = f"{record['who']} went back from {tag} at {record['when']}: `--to {tag}` takes it into use again"
    return Verdict(rules=(Rule(name="withdrawn", passed=False, sentence=reason),))


def _write_verdict(tag: str, verdict: Verdict, candidate: Candidate, path: Path | None) -> None:
    print(f"challenger {tag}: {verdict.summary()}", flush=True)
    if path is not None:
        run = this_run(sha256_of(candidate.test_rows))
        write_text(path, json.dumps({"tag": tag, **verdict.to_json()} | run.block(), indent=1) + "\n")


def _record(tag: str, champion: str | None, challenger: Model, candidate: Candidate, repository: Repository) -> Record:
    """The record of a release: what it is made of, who released it and when."""
    bento = yaml.safe_load((candidate.bento / "bento.yaml").read_text())
    return {
        "event": "release",
        "tag": tag,
        "previous": champion,
        **repository.signature(),
        "revision": repository.revision(),
        "changed": repository.changed(),
        "data": sha256_of(candidate.test_rows),
        "params": sha256_of(PARAMS),
        "model": challenger.tag,
        "bento": f"{bento['name']}:{bento['version']}",
    }


def _metrics(metrics: ChallengerMetrics, verdict: Verdict) -> dict[str, Any]:
    cells = {cell.name: round(cell.challenger, 6) for cell in metrics.cells}
    return {
        "metrics": {"mean": round(metrics.mean, 6), "rows": metrics.rows, "cells": cells},
        "verdict": [rule.sentence for rule in verdict.rules],
    }


def _commit_message(record: Record, verdict: Verdict) -> str:
    replaced = f"replaces {record['previous']}" if record["previous"] else "the first"
    return f"Release {record['tag']}\n\n{replaced}; {verdict.summary()}\n"
