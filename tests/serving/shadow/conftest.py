"""The ranker, the request type and a request that the tests of the shadow model share."""

from pathlib import Path

import pytest

from common import params
from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest, request_type
from tests.support import tiny_project, world


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker with the model in use."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("first") / "registry.db")


@pytest.fixture(scope="module")
def accepted(project: Path) -> type[RankRequest]:
    """The type of the requests."""
    return request_type(world.schema(), params.load(project / "params.yaml").serve)


@pytest.fixture
def request_(accepted: type[RankRequest]) -> RankRequest:
    """A request for the best five of all items."""
    return accepted(user_id=1, scenario="feed", candidates=list(range(9)), k=5, context={"hour": 3})
