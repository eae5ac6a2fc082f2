"""Makes an earlier release the champion again."""

from pathlib import Path

from common.errors import ReleaseError
from common.exit_status import DONE
from release.provenance import Repository
from release.registry import Registry
from release.takeover import observe, sentence
from release.trial import start_command


def roll_back(registry: Registry, to: str | None) -> int:
    """Make the release `to` the champion, or the one before the champion.

    Raises ReleaseError where there is none, and where it cannot be started; then nothing has changed.
    """
    champion = registry.linked_tag()
    if champion is None:
        raise ReleaseError(f"{registry.folder} has no champion yet, there is nothing to go back from")
    tag = registry.previous(champion) if to is None else registry.find(to)
    if tag == champion:
        print(f"{tag} is the champion already", flush=True)
        return DONE
    start = start_command(registry.folder / tag)  # what cannot be started is rejected before it is the champion
    signature = Repository(Path()).signature()
    registry.append({"event": "rollback", "tag": tag, "previous": champion, **signature})
    registry.set_champion(tag)
    print(f"champion {tag}, back from {champion}", flush=True)
    print(sentence(tag, observe(registry.folder, tag), start), flush=True)
    return DONE
