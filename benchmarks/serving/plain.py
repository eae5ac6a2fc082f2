"""The same service, written plainly: all rows from Feast, the network's forward, @bentoml.api.

The ranking service is measured against it: `bentoml serve benchmarks.serving.plain:Plain`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bentoml

from common.settings import read_settings


@bentoml.service(name="plain", workers=1, http={"host": "127.0.0.1"}, envs=[{"name": "OMP_NUM_THREADS", "value": "1"}])
class Plain:
    """Ranks items by the sum of the probabilities of their tasks."""

    def __init__(self) -> None:
        from benchmarks.serving.plain_ranker import PlainRanker

        self.scratch = TemporaryDirectory(prefix="plain-")
        settings, registry = read_settings(), Path(self.scratch.name) / "registry.db"
        self.ranker = PlainRanker(settings.model, settings.online_store, registry)

    @bentoml.api  # type: ignore[untyped-decorator]
    def rank(self, user_id: int, scenario: str, candidates: list[int]) -> dict[str, Any]:
        """The candidates, best first."""
        return self.ranker.rank(user_id, scenario, candidates)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Remove the scratch folder."""
        self.scratch.cleanup()
