"""What lies in a bento, by sha256: written when it is packed, held against it before anything of it is used."""

import hashlib
import json
from pathlib import Path

from common.errors import ModelError

MANIFEST = "sha256.json"


def write_manifest(root: Path) -> None:
    """Write the sha256 of every file under `root` to `root/sha256.json`."""
    (root / MANIFEST).write_text(json.dumps(dict(sorted(_digests(root).items())), indent=1) + "\n")


def check_manifest(root: Path) -> None:
    """Hold every file that the manifest names against its sha256; raises ModelError. Without one, nothing is checked.

    Files that it does not name (compiled code) are nobody's.
    """
    if not (root / MANIFEST).is_file():
        return
    for name, expected in json.loads((root / MANIFEST).read_text()).items():
        found = _sha256(root / name) if (root / name).is_file() else "no file"
        if found != expected:
            raise ModelError(
                f"{root / name}: expected sha256 {expected}, found {found}: the bento was changed "
                "after it was packed; take it from its source, or run `dvc repro package`"
            )


def _digests(root: Path) -> dict[str, str]:
    paths = (path for path in root.rglob("*") if path.is_file() and path != root / MANIFEST)
    return {path.relative_to(root).as_posix(): _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
