"""The same service, written plainly: all rows out of Feast, then the network's forward, through @bentoml.api.

What the ranking service is measured against; it lives here and nowhere else. `bentoml serve benchmarks.serving.plain:Plain`.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bentoml


@bentoml.service(name="plain", workers=1, http={"host": "127.0.0.1"}, envs=[{"name": "OMP_NUM_THREADS", "value": "1"}])
class Plain:
    """Ranks items by the sum of the probabilities of their tasks."""

    def __init__(self) -> None:
        from benchmarks.serving.inside import PlainRanker

        self.scratch = TemporaryDirectory(prefix="plain-")
        online = Path(os.environ["HINET_ONLINE_STORE"])
        self.ranker = PlainRanker(Path(os.environ["HINET_MODEL"]), online, Path(self.scratch.name) / "registry.db")

    @bentoml.api
    def rank(self, user_id: int, scenario: str, candidates: list[int]) -> dict[str, Any]:
        """The candidates, best first."""
        return self.ranker.rank(user_id, scenario, candidates)

    @bentoml.on_shutdown
    def close(self) -> None:
        """Leave nothing behind."""
        self.scratch.cleanup()
