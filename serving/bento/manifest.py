"""The manifest of a bento: the sha256 of every packed file, checked before the service uses any of them."""

import json
from pathlib import Path

from common.errors import ModelError
from common.files import sha256_of

MANIFEST = "sha256.json"


def write_manifest(root: Path) -> None:
    """Write the sha256 of every file under `root` to `root/sha256.json`."""
    (root / MANIFEST).write_text(json.dumps(dict(sorted(_digests(root).items())), indent=1) + "\n")


def check_manifest(root: Path) -> None:
    """Compare every file that the manifest under `root` names with its sha256; raises ModelError on a difference.

    Without a manifest nothing is checked. Files that it does not name (compiled code) are ignored.
    """
    if not (root / MANIFEST).is_file():
        return
    for name, expected in json.loads((root / MANIFEST).read_text()).items():
        actual = sha256_of(root / name) if (root / name).is_file() else "no file"
        if actual != expected:
            raise ModelError(
                f"{root / name}: expected sha256 {expected}, found {actual}: the bento was changed "
                "after it was packed; take it from its source, or run `dvc repro package`"
            )


def _digests(root: Path) -> dict[str, str]:
    paths = (path for path in root.rglob("*") if path.is_file() and path != root / MANIFEST)
    return {path.relative_to(root).as_posix(): sha256_of(path) for path in paths}
