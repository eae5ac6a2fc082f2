"""The newest model challenges the champion by `python -m release.promote`; the verdict becomes an artifact."""

import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from common.exit_status import DONE, REJECTED
from common.paths import SERVING_STORE
from common.settings import read_settings
from flows.ops.notify import notify
from flows.ops.written_by import written_by
from flows.process.document import Document, run_for_document
from flows.tasks.online_store import refresh, store_options


class Rule(BaseModel):
    """A rule of the policy: whether the challenger meets it, and a sentence with the numbers."""

    passed: bool
    sentence: str


class Verdict(Document):
    """What the flows read of the verdict of release.promote on the challenger `tag`."""

    statuses = (DONE, REJECTED)

    tag: str
    passed: bool
    rules: list[Rule]

    @property
    def status(self) -> int:
        """The exit status of the decision."""
        return DONE if self.passed else REJECTED


@task(cache_policy=NO_CACHE)
async def challenge(options: dict[str, str]) -> Verdict:
    """The verdict of the promotion policy; raises CommandError where the challenger could not be evaluated.

    `options` are those of release.promote.
    """
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "verdict.json"
        verdict = await run_for_document(Verdict, "release.promote", options | {"--verdict": str(path)}, path)
    await acreate_markdown_artifact(key="release", markdown=page(verdict), description="The promotion policy's verdict")
    return verdict


async def refreshed_store(as_of: datetime.datetime) -> dict[str, str]:
    """Options of release.promote: the online store in use, materialized up to `as_of`; none where there is no store.

    None where it holds other features than the challenger's, because the champion reads it: then the challenger is
    checked with the store of `dvc repro`. Raises CommandError where it could not be materialized. Needs the workspace
    lock.
    """
    if not SERVING_STORE.exists() and read_settings().redis is None:
        return {}
    summary = await refresh(as_of, SERVING_STORE)
    return {} if summary.of_champion else store_options(summary)


async def notify_rejection(verdict: Verdict) -> None:
    """Send a message where the promotion policy rejected the challenger."""
    if not verdict.passed:
        await notify("release: rejected", sentence(verdict))


def sentence(verdict: Verdict) -> str:
    """The new champion, or why the challenger was rejected, in one line."""
    failed = [rule.sentence for rule in verdict.rules if not rule.passed]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{verdict.tag} is not released: {failed[0]}{more}" if failed else f"{verdict.tag} is the champion"


def page(verdict: Verdict) -> str:
    """The verdict as Markdown: every rule with its numbers, those that failed first."""
    ordered = sorted(verdict.rules, key=lambda rule: rule.passed)
    rules = "".join(f"- {'ok' if rule.passed else '**no**'}: {rule.sentence}\n" for rule in ordered)
    decision = "accepted" if verdict.passed else "rejected"
    head = f"# Release {verdict.tag}\n\nThe challenger is **{decision}**.\n\n"
    return f"{head}{rules}\n{written_by(verdict.run)}\n"
