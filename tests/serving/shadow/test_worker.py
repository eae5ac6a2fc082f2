"""The worker of the shadow process: compares answers, logs them, and skips what cannot be compared."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.store.item_snapshot import item_snapshot_path
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import RankRequest
from serving.shadow.protocol import encode_line
from serving.telemetry.impression_log import ImpressionLog
from tests.support import tiny_project
from tests.support.shadow import requests_counted, value, worker_on

pytestmark = pytest.mark.integration


def test_the_same_model_gives_the_same_answer(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest
) -> None:
    """The items of the answer are compared, though the shadow model ranks all candidates; the metrics count it."""
    before = requests_counted("compared")
    result = ranker.rank(request_)
    compared = worker_on(ranker, accepted).compare(encode_line(request_, result))
    assert compared is not None
    assert compared.items == result.items
    np.testing.assert_allclose(compared.shadow_scores, result.scores, rtol=1e-6)
    assert compared.correlation == pytest.approx(1)
    assert compared.shift == pytest.approx(0, abs=1e-6)
    assert requests_counted("compared") == before + 1
    assert value("hinet_shadow_rank_correlation_count", scenario="feed") > 0
    assert value("hinet_shadow_model", tag=result.model) == 1


def test_both_answers_are_logged_in_a_row_per_item(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest, tmp_path: Path
) -> None:
    """A row has ids, and tag, scores and probabilities of both models."""
    log = ImpressionLog(folder=tmp_path, sample=1, rows_per_file=1000, seconds=60)
    result = ranker.rank(request_)
    worker_on(ranker, accepted, log).compare(encode_line(request_, result))
    log.close()
    rows = pq.read_table(tmp_path).to_pydict()
    assert rows["item_id"] == result.items
    assert rows["user_id"] == [1] * 5
    assert rows["place"] == list(range(5))
    np.testing.assert_allclose(rows["shadow_score_click"], rows["score_click"], rtol=1e-6)
    assert set(rows["shadow_tag"]) == {result.model}
    assert {"request_id", "served_at", "scenario", "model_tag", "seconds", "shadow_seconds", "score"} <= set(rows)


def test_a_line_that_cannot_be_compared_is_counted_and_skipped(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest
) -> None:
    """The next line is compared."""
    before = [requests_counted(outcome) for outcome in ("not comparable", "compared")]
    lines = [b"no JSON\n", b'{"request": {}}\n', encode_line(request_, ranker.rank(request_))]
    worker_on(ranker, accepted).run(lines)
    after = [requests_counted(outcome) for outcome in ("not comparable", "compared")]
    assert np.subtract(after, before).tolist() == [2, 1]


def test_a_worker_that_is_to_end_drops_the_remaining_lines(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest
) -> None:
    """The comparison in progress is completed, and no further line is taken."""
    worker, line = worker_on(ranker, accepted), encode_line(request_, ranker.rank(request_))
    before = requests_counted("compared")

    def lines() -> Iterator[bytes]:
        yield line
        yield line
        worker.ending = True
        yield line

    worker.run(lines())
    assert requests_counted("compared") - before == 2


def test_a_degraded_answer_of_the_shadow_model_is_not_compared(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest, project: Path, tmp_path: Path
) -> None:
    """A difference would come from missing features, not from the model; the request is counted."""
    online = tmp_path / "online.db"
    shutil.copy(project / tiny_project.ONLINE, online)
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    settings = tiny_project.with_read_timeout(project, store={"timeout_ms": 100.0})
    sources = ModelSources(project / tiny_project.MODEL, online, tmp_path / "r.db")
    worker = worker_on(open_ranker(sources, settings), accepted)
    before = requests_counted("degraded")
    with contextlib.closing(sqlite3.connect(online, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        assert worker.compare(encode_line(request_, ranker.rank(request_))) is None
    assert requests_counted("degraded") == before + 1
