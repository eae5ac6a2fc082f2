"""Where a model and its features are read from, and which online store fits the model.

The online store in use may become that of another schema or of other views while a model serves. A release keeps the
store of its own pipeline run in its bento, so that its model can be started whatever the store in use has become. No
heavy imports: the process that only watches the workers checks by this what they will need.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import SnapshotError
from common.paths import ONLINE_STORE
from features.schema import Schema, View
from features.store.item_snapshot import item_snapshot_path, verify_snapshot

RELEASED_STORE = Path("bento") / "src" / ONLINE_STORE  # in the folder of a release, whose model is in `model`
FileStamps = tuple[tuple[str, int, int, int], ...]  # of each file: path, inode, size, mtime in nanoseconds


@dataclass(frozen=True)
class ModelSources:
    """Where a model is loaded from: its folder (or a link to it), the online store, and a file for Feast's registry.

    The item snapshot lies in the folder of `online`. With `redis`, Redis is the online store, and `online` only names
    that folder. In the folder `events` are the events since the log, if any are read (features/store/live_sessions.py).
    """

    model: Path
    online: Path
    registry: Path
    redis: str | None = None
    events: Path | None = None

    def stamps(self) -> tuple[FileStamps, FileStamps, FileStamps]:
        """The file stamps of the model, the snapshot and the online store; equal while no file is replaced.

        The online store is changed while it is in use, so only its inode counts.
        """
        folder = self.model.resolve()
        online = tuple((path, inode, 0, 0) for path, inode, *_ in _stamps([self.online.resolve()]))
        return _stamps(sorted(folder.glob("*"))), _stamps([item_snapshot_path(self.online)]), online


def released_store(model: Path) -> Path | None:
    """The online store of the release that the model folder `model` belongs to; None where there is none."""
    online = model.parent / RELEASED_STORE
    return online if online.is_file() and item_snapshot_path(online).is_file() else None


def fitting_sources(
    sources: ModelSources, schema: Schema, views: tuple[View, ...]
) -> tuple[ModelSources, SnapshotError | None]:
    """`sources` where their online store fits a model of `schema` and `views`, else with the store of its release.

    Then the reason is returned, too. Raises SnapshotError where neither store fits. `sources.model` must be a folder,
    not a link that a release may exchange meanwhile.
    """
    try:
        _check_store(sources, schema, views)
    except SnapshotError as error:
        own = released_store(sources.model)
        if own is None:
            raise
        released = dataclasses.replace(sources, online=own, redis=None)
        _check_store(released, schema, views)
        return released, error
    return sources, None


def _check_store(sources: ModelSources, schema: Schema, views: tuple[View, ...]) -> None:
    if sources.redis is None and not sources.online.is_file():
        raise SnapshotError(f"{sources.online} does not exist, the online store: run `dvc repro materialize`")
    verify_snapshot(item_snapshot_path(sources.online), schema, views)


def _stamps(paths: Sequence[Path]) -> FileStamps:
    stats = ((path, path.stat()) for path in paths if path.exists())
    return tuple((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
