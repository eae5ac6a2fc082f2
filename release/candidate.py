"""The candidate of a release: the challenger, its bento, and the stores and rows that it is checked against."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.errors import ReleaseError
from common.paths import MODEL
from common.settings import read_settings
from features.store.item_snapshot import item_snapshot_path


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The paths of a candidate; `as_of` (UTC) is the timestamp that `online` is materialized up to.

    `as_of` None: the newest timestamp of the features.
    """

    model: Path
    bento: Path
    online: Path
    encoder: Path
    features: Path
    training: Path
    tensors: Path
    as_of: datetime | None = None

    @property
    def test_rows(self) -> Path:
        """The rows of the newest window."""
        return self.training / "test.parquet"

    @property
    def bento_model(self) -> Path:
        """The model in the bento."""
        return self.bento / "src" / MODEL

    def check_complete(self) -> None:
        """Raise ReleaseError where a file is missing, with its name."""
        online = [] if read_settings().redis else [self.online]
        expected = [self.bento / "bento.yaml", *online, item_snapshot_path(self.online), self.encoder, self.test_rows]
        expected += [self.tensors / "test", self.features / "views.json"]
        missing = ", ".join(str(path) for path in expected if not path.exists())
        if missing:
            raise ReleaseError(f"{missing}: expected what the pipeline makes, found nothing; run `dvc repro`")
