"""Rankers of the tiny project on a store, and what they answer."""

from pathlib import Path
from typing import Any

from common.paths import ROOT
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project

UNKNOWN_USER = 1000
USERS = (*range(12), UNKNOWN_USER)  # all of the tiny world, and one more


def ranker_on(project: Path, sources: ModelSources, **store: Any) -> Ranker:
    """A ranker whose circuit breaker opens after two failures and tries again after 50 ms."""
    store = {"failures": 2, "pause_seconds": 0.05} | store
    return open_ranker(sources, tiny_project.with_read_timeout(project, store=store))


def rank(ranker: Ranker, user: int = 1, scenario: str = "search") -> RankingResult:
    """All items for a user."""
    accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(ROOT))
    return ranker.rank(accepted(user_id=user, scenario=scenario, candidates="all"))
