"""What the collector remembers: how far it has read the queue, and the days whose partitions it has yet to write."""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from common.files import write_text

FILE = "progress.json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The last entry that was read of a queue (its `identity` and `number`), and the days that change yet."""

    identity: str
    number: int = 0
    open_days: frozenset[date] = frozenset()

    def write(self, folder: Path) -> None:
        """Record it in the folder of the collector."""
        days = sorted(map(str, self.open_days))
        write_text(folder / FILE, json.dumps(asdict(self) | {"open_days": days}, indent=1) + "\n")


def read_progress(folder: Path, identity: str) -> Progress:
    """What was recorded; of a queue with another identity it begins at its first entry."""
    path = folder / FILE
    if not path.exists():
        return Progress(identity=identity)
    plain = json.loads(path.read_text(encoding="utf-8"))
    number = int(plain["number"]) if plain["identity"] == identity else 0
    days = frozenset(map(date.fromisoformat, plain["open_days"]))
    return Progress(identity=identity, number=number, open_days=days)
