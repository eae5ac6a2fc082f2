"""A real service with a shadow model, over HTTP."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.serving.servers import OURS, Server, get, post, serve
from benchmarks.serving.variants import perturbed_model
from models.model_folder import read_model
from serving.shadow.client import QUEUE_SIZE, WORKER
from tests.support import tiny_project
from tests.support.serving import samples
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]


SENT = 200  # requests to a real service


WAIT = 300.0  # seconds for a process of the lowest priority on a busy machine


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_service_is_compared_with_a_shadow_model(project: Path, tmp_path: Path) -> None:
    """Each answer is compared with that of a model with noise: metrics and Parquet files have every comparison."""
    perturbed_model(project / tiny_project.MODEL, tmp_path / "noisy")
    tags = [read_model(folder).tag for folder in (project / tiny_project.MODEL, tmp_path / "noisy")]
    environment = {
        "HINET_MODEL": project / tiny_project.MODEL,
        "HINET_ONLINE_STORE": project / tiny_project.ONLINE,
        "HINET_SHADOW": tmp_path / "noisy",
        "HINET_SHADOW_SHARE": 1,
        "HINET_SHADOW_LOG": tmp_path / "both",
    }
    with serve(OURS, environment={name: str(value) for name, value in environment.items()}) as server:
        complete = 0
        for number in range(SENT):
            answer = send(server, number)
            assert answer["model"] == tags[0], "no caller gets the shadow model's answer"
            complete += not answer["degraded"]
            if number == SENT // 2:  # a service may be stopped by a signal to all its processes: the shadow ignores it
                wait_until(lambda: compared_by(server) == complete, WAIT)  # noqa: B023 (ends before the next turn)
                shadow_process(server).terminate()
            if complete - compared_by(server) > QUEUE_SIZE / 2:
                wait_until(lambda: compared_by(server) == complete, WAIT)  # noqa: B023
        wait_until(lambda: compared_by(server) == complete, WAIT)
        page = samples(get(f"{server.url}/metrics"))
        wait_until(lambda: len(logged(tmp_path)) == complete * 9, WAIT)
    rows = logged(tmp_path)
    assert complete > SENT / 2
    assert page["hinet_shadow_model", ("tag", tags[1])] == 1
    assert rows["request_id"].nunique() == complete
    assert (set(rows["model_tag"]), set(rows["shadow_tag"])) == ({tags[0]}, {tags[1]})
    assert 0 < np.abs(rows["shadow_score"] - rows["score"]).max() < 1


def shadow_process(server: Server) -> psutil.Process:
    """The process of the shadow model."""
    (process,) = [process for process in server.processes() if WORKER in process.cmdline()]
    return process


def logged(folder: Path) -> pd.DataFrame:
    """The rows that are written so far."""
    files = sorted((folder / "both").rglob("*.parquet"))
    return pd.concat([pq.read_table(path).to_pandas() for path in files]) if files else pd.DataFrame()


def send(server: Server, number: int) -> dict[str, Any]:
    """The answer to a request of one of the tiny world's users for all items."""
    body = {"user_id": number % 12, "scenario": "feed", "candidates": list(range(9))}
    answer: dict[str, Any] = orjson.loads(post(f"{server.url}/rank", orjson.dumps(body)))
    return answer


def compared_by(server: Server) -> float:
    """How many answers were compared, according to /metrics; none may have another outcome."""
    page = samples(get(f"{server.url}/metrics"))
    lost = [
        value
        for (name, *labels), value in page.items()
        if name == "hinet_shadow_requests_total" and labels != [("outcome", "compared")]
    ]
    assert not any(lost), page
    return page.get(("hinet_shadow_requests_total", ("outcome", "compared")), 0.0)
