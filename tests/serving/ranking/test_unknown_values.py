"""What the model does not know of a request is flagged: values that no training row has, untrained scenarios."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.paths import ROOT
from features.encoding.encoder import Encoder
from serving.http.response import ranking_json
from serving.ranking.ranker import Ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project, world

ITEMS = list(range(9))
HOURS, CITIES = st.none() | st.integers(0, 23), st.none() | st.sampled_from(["north", "south", "east", "Oz", ""])
TAGS = st.none() | st.lists(st.sampled_from(["hot", "new", "cold", "Oz"]), max_size=4)
RECENT = st.none() | st.lists(st.integers(0, 12), max_size=8)
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the tiny project."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("registry") / "registry.db", outdated_hours=None)


@pytest.fixture(scope="module")
def accepted(ranker: Ranker) -> Any:
    """The type of its requests."""
    return request_type(ranker.loaded.schema, tiny_project.with_read_timeout(ROOT), ranker.loaded.model.views)


def rank(ranker: Ranker, accepted: Any, **changes: Any) -> RankingResult:
    """The result of a valid request with changes."""
    return ranker.rank(accepted(**{"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes))


def is_unknown(encoder: Encoder, name: str, values: list[Any]) -> bool:
    """Whether one of the values is in no vocabulary; a list: whether none of its kept values is."""
    column = next(column for column in encoder.columns if column.name == name)
    known = set(encoder.vocabularies[column.vocabulary])
    if not column.is_list:
        return any(value is not None and value not in known for value in values)
    kept = slice(-column.length, None) if name == "user_recent_items" else slice(column.length)
    return any(value and not known & set(value[kept]) for value in values)


@settings(deadline=None, max_examples=150)
@given(hour=HOURS, city=CITIES, recent=RECENT, tags=st.lists(TAGS, min_size=9, max_size=9), k=st.integers(1, 9))
def test_every_unknown_value_is_flagged_and_no_other(
    ranker: Ranker, accepted: Any, hour: Any, city: Any, recent: Any, tags: Any, k: int
) -> None:
    """Of context, user and answered items: exactly the columns with a value that the vocabularies lack."""
    overrides = {"user": {"city": city, "user_recent_items": recent}, "items": {"tags": [t or [] for t in tags]}}
    result = rank(ranker, accepted, context={"hour": hour}, overrides=overrides, k=k)
    answered = [tags[item] for item in result.items]
    values = {"hour": [hour], "city": [city], "user_recent_items": [recent], "tags": answered}
    expected = {name for name, of_one in values.items() if is_unknown(ranker.loaded.model.encoder, name, of_one)}
    assert set(result.unknown_columns) == expected
    assert len(result.unknown_columns) == len(expected)


def test_a_normal_answer_says_nothing_of_it(ranker: Ranker, accepted: Any) -> None:
    """The field `unknown` is absent: its bytes are those of a service without it."""
    result = rank(ranker, accepted, context={"hour": None})
    assert (result.unknown_columns, result.untrained_scenario) == ([], False)
    assert b'"unknown":' not in ranking_json(result)


def test_a_scenario_without_training_rows_is_ranked_by_the_model_and_flagged(
    ranker: Ranker, accepted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which scenarios have rows is read from the reference of the model; scores are the network's, as in evaluation."""
    before = rank(ranker, accepted)
    assert ranker.loaded.unknown.trained.all()
    monkeypatch.setattr(ranker.loaded.unknown, "trained", np.array([True, False, True]))
    result = rank(ranker, accepted)
    assert (result.untrained_scenario, result.degraded) == (True, None)
    np.testing.assert_array_equal(result.scores, before.scores)
    assert b'"unknown":{"scenario":true,"columns":[]}' in ranking_json(result)


def test_a_scenario_that_is_declared_only_is_untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the whole pipeline on a log in which one declared scenario has no row, its rankings alone are flagged."""
    declared = world.schema(scenarios=("feed", "search", "channel", "nearby"))
    monkeypatch.setattr(world, "schema", lambda: declared)
    ranker = tiny_project.ranker(tiny_project.build(tmp_path), tmp_path / "registry.db")
    accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(ROOT), ranker.loaded.model.views)
    flags = {one: rank(ranker, accepted, scenario=one).untrained_scenario for one in declared.scenarios}
    assert flags == {"feed": False, "search": False, "channel": False, "nearby": True}
