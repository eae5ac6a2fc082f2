"""Every document that a flow reads of a process, with samples of what its module writes.

A new kind of document is added here: tests/flows/process/test_document.py holds the table against the flows.
"""

import json
from typing import Any

from common.exit_status import DONE, REJECTED, VERDICTS
from common.run_identity import RunIdentity
from flows.process.document import Document
from flows.tasks.backtest_days import Figures, Timeline
from flows.tasks.drift_report import Report
from flows.tasks.feedback_log import Collected, Compared
from flows.tasks.online_store import Summary
from flows.tasks.promotion import Verdict

FINDING = {"verdict": "act", "kind": "missing", "sentence": "price is missing."}
DRIFT = {
    "reason": "Price moved.",
    "next_step": "Look upstream.",
    "current": {"first_day": "2026-01-16", "last_day": "2026-01-17", "rows": 12345},
    "findings": [FINDING],
}
COUNTS = {"written": 1, "late": 0, "unchanged": 2, "older": 0, "later": 0}
TIME = "2026-01-18T02:00:00+00:00"
RULE = {"name": "mean", "sentence": "mean: better"}

# by kind of document: the content of a process that ended with each status
READERS: dict[type[Document], dict[int, dict[str, Any]]] = {
    Report: {status: {"verdict": verdict, **DRIFT} for verdict, status in VERDICTS.items()},
    Summary: {
        DONE: {"as_of": TIME, "up_to": TIME, "skipped": None, "views": {"user": COUNTS}, "compared": {"user": 3}}
    },
    Verdict: {
        DONE: {"tag": "abc", "passed": True, "rules": [RULE | {"passed": True}]},
        REJECTED: {"tag": "abc", "passed": False, "rules": [RULE | {"passed": False}]},
    },
    Figures: {DONE: {"rows": 100, "mean": 0.7, "frozen": 0.6, "gain": {"value": 0.1, "low": 0.0, "high": 0.2}}},
    Collected: {
        DONE: {
            "skipped": None,
            "entries": 3,
            "days": {"2026-01-17": {"received": 3, "matched": 2, "written": 2, "lacking": {"context": 1}}},
        }
    },
    Compared: {DONE: {"passed": True, "tables": {"user": {"passed": True, "rows": 36, "failed": []}}}},
    Timeline: {DONE: {"sentence": "four days", "days": []}},
}


def written(content: dict[str, Any], run: str) -> bytes:
    """The file of a document, as the process with the id `run` writes it."""
    identity = RunIdentity(id=run, time="2026-01-18T03:00:00+00:00", data="5e1f")
    return json.dumps(content | identity.block(), indent=1).encode() + b"\n"
