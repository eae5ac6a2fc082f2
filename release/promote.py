"""Makes a challenger the champion if the promotion policy accepts it, or goes back to an earlier release.

    python -m release.promote                  # the model and the bento that `dvc repro` just made
    python -m release.promote --rollback       # to the release before
    python -m release.promote --to TAG         # to any release that is kept
    python -m release.promote --new-schema     # after a change of scenarios, tasks or columns, once

Exit status: 0 the champion is the requested one, 20 the challenger is rejected, 1 it could not be evaluated. Unless the
status is 0, nothing has changed.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from common import paths, stage
from release.registry import Registry

Timestamp = Annotated[datetime, Parameter(name=("--as-of", "--moment"))]


def promote(  # noqa: PLR0913  # the options of a command
    *,
    challenger: Path = paths.MODEL,
    bento: Path = paths.BENTO,
    online: Path = paths.ONLINE_STORE,
    encoder: Path = paths.ENCODER,
    features: Path = paths.FEATURES,
    training: Path = paths.TRAINING,
    tensors: Path = paths.TENSORS,
    releases: Path = paths.RELEASES,
    as_of: Timestamp | None = None,
    rollback: bool = False,
    to: str | None = None,
    new_schema: bool = False,
    verdict: Path | None = None,
) -> int:
    """Release a challenger with its bento if the promotion policy accepts it, or go back to an earlier release.

    Args:
        challenger: Folder of the model.
        bento: Folder of its bento.
        online: The SQLite online store that the service reads.
        encoder: The trained encoder.
        features: Folder of the offline features.
        training: Folder of the training set.
        tensors: Folder of the tensors.
        releases: Folder of the release registry.
        as_of: The timestamp (UTC) that the online store is materialized up to; None: the newest of the features.
        rollback: Go back to the release before the champion.
        to: Tag, or the beginning of a tag, of the release that becomes the champion.
        new_schema: Compare the challenger with chance where the champion cannot score its rows, because scenarios,
            tasks or columns have changed.
        verdict: JSON file that the verdict is written to; it is printed in any case.
    """
    if verdict is not None:
        verdict.unlink(missing_ok=True)  # that of an earlier run: where this one fails there is none
    registry = Registry(releases)
    with registry.locked():
        if rollback or to is not None:
            from release.rollback import roll_back

            return roll_back(registry, to)
        from release.candidate import Candidate
        from release.challenge import challenge

        candidate = Candidate(
            model=challenger,
            bento=bento,
            online=online,
            encoder=encoder,
            features=features,
            training=training,
            tensors=tensors,
            as_of=_utc(as_of),
        )
        return challenge(registry, candidate, verdict, new_schema=new_schema)


def _utc(timestamp: datetime | None) -> datetime | None:
    """A timestamp without a time zone is in UTC."""
    return timestamp if timestamp is None or timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


if __name__ == "__main__":
    stage.run(promote)
