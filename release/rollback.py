"""Makes an earlier release the champion again."""

from pathlib import Path

from common.errors import ReleaseError
from common.exit_status import DONE
from models.model_folder import read_model
from release.provenance import Repository
from release.registry import MODEL, Registry


def roll_back(registry: Registry, to: str | None) -> int:
    """Make the release `to` the champion, or the one before the champion; raises ReleaseError where there is none."""
    champion = registry.linked_tag()
    if champion is None:
        raise ReleaseError(f"{registry.folder} has no champion yet, there is nothing to go back from")
    tag = registry.previous(champion) if to is None else registry.find(to)
    if tag == champion:
        print(f"{tag} is the champion already", flush=True)
        return DONE
    read_model(registry.folder / tag / MODEL)  # a damaged model is rejected before it is in use
    signature = Repository(Path()).signature()
    registry.append({"event": "rollback", "tag": tag, "previous": champion, **signature})
    registry.set_champion(tag)
    print(
        f"champion {tag}, back from {champion}; `make champion` serves it, a running service reloads it by itself",
        flush=True,
    )
    return DONE
