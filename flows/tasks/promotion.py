"""The newest model challenges the champion by `python -m release.promote`; the verdict becomes an artifact."""

import datetime
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from common.exit_status import DONE, REJECTED
from common.paths import SERVING_STORE
from flows.ops.notify import notify
from flows.process.python_module import run_module
from flows.tasks.online_store import refresh, store_options

Verdict = dict[str, Any]  # the JSON that release.promote writes


@task(cache_policy=NO_CACHE)
async def challenge(options: dict[str, str]) -> Verdict:
    """The verdict of the promotion policy; raises CommandError where the challenger could not be evaluated.

    `options` are those of release.promote.
    """
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "verdict.json"
        await run_module("release.promote", options | {"--verdict": str(path)}, expected=(DONE, REJECTED))
        verdict: Verdict = json.loads(path.read_text())
    await acreate_markdown_artifact(key="release", markdown=page(verdict), description="The promotion policy's verdict")
    return verdict


async def refreshed_store(as_of: datetime.datetime) -> dict[str, str]:
    """Options of release.promote: the online store in use, materialized up to `as_of`; none where there is no store.

    Raises CommandError where it could not be materialized. Needs the workspace lock.
    """
    if not SERVING_STORE.exists():
        return {}
    await refresh(as_of, SERVING_STORE)
    return store_options()


async def notify_rejection(verdict: Verdict) -> None:
    """Send a message where the promotion policy rejected the challenger."""
    if not verdict["passed"]:
        await notify("release: rejected", sentence(verdict))


def sentence(verdict: Verdict) -> str:
    """The new champion, or why the challenger was rejected, in one line."""
    failed = [rule["sentence"] for rule in verdict["rules"] if not rule["passed"]]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{verdict['tag']} is not released: {failed[0]}{more}" if failed else f"{verdict['tag']} is the champion"


def page(verdict: Verdict) -> str:
    """The verdict as Markdown: every rule with its numbers, those that failed first."""
    ordered = sorted(verdict["rules"], key=lambda rule: rule["passed"])
    rules = "".join(f"- {'ok' if rule['passed'] else '**no**'}: {rule['sentence']}\n" for rule in ordered)
    decision = "accepted" if verdict["passed"] else "rejected"
    return f"# Release {verdict['tag']}\n\nThe challenger is **{decision}**.\n\n{rules}"
